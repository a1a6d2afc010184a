//! What the look into a snapshot and the answer of another member come to.

use std::time::Duration;

use backstay_archive::manifest::{self, Origin, Verdict};
use backstay_archive::writer::Rejected;
use backstay_snapshot::inspect::{Inspection, Unknown};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::Looked;
use super::ask::{Answer, Question};

/// How often a member is asked again that is compacted less far than the snapshot.
const AGAIN_MAX: usize = 8;

/// Bytes of a reason in the manifest, at most.
const REASON_MAX: usize = 1024;

/// Judges one snapshot.
pub struct Judge {
    pub origin: Origin,
    /// `None`: nobody is asked.
    pub question: Option<Question>,
}

impl Judge {
    /// Asks while the stream runs, from its first bytes on, and judges once the look is over.
    pub async fn judge(
        self,
        mut looked: oneshot::Receiver<Looked>,
        begun: oneshot::Receiver<()>,
    ) -> Result<manifest::Inspection, Rejected> {
        let asked = async {
            let Some(question) = &self.question else { return Err("asking another member is turned off".to_owned()) };
            // A stream that never begins ends the attempt, and this with it.
            let _ = begun.await;
            question.ask().await
        };
        tokio::pin!(asked);
        let mut answer = None;
        let looked = loop {
            tokio::select! {
                looked = &mut looked => break looked,
                early = &mut asked, if answer.is_none() => answer = Some(early),
            }
        };
        // The observer goes without a word only where the attempt has failed already.
        let Ok(looked) = looked else { return std::future::pending().await };
        let inspection = self.fit(looked)?;
        let rest = async {
            let answer = match answer {
                Some(answer) => answer,
                None => asked.await,
            };
            self.compare(&inspection, answer).await
        };
        // The last part waits for it: however many members are asked, they have this long in all.
        let patience = self.question.as_ref().map_or(Duration::ZERO, Question::patience);
        let verdict = match timeout(patience, rest).await {
            Ok(verdict) => verdict?,
            Err(_) => unknown(None, format!("no answer {}s after the stream had ended", patience.as_secs_f32())),
        };
        Ok(manifest::Inspection { contents: manifest::Contents::of(&inspection), ..verdict })
    }

    /// Refuses a database that is damaged or too old.
    fn fit(&self, looked: Looked) -> Result<Inspection, Rejected> {
        let member = &self.origin.member_id;
        let inspection = looked
            .map_err(|error| Rejected::Unfit(format!("the database of etcd member {member} is damaged: {error}")))?;
        let demanded = self.origin.revision;
        match &inspection.contents {
            Ok(contents) if contents.revision < demanded => {
                let is = contents.revision;
                let text = format!(
                    "the snapshot of etcd member {member} ends at revision {is}, before {demanded}, at which the cluster was when it was taken"
                );
                Err(Rejected::Unfit(text))
            }
            _ => Ok(inspection),
        }
    }

    async fn compare(
        &self,
        inspection: &Inspection,
        answer: Result<Answer, String>,
    ) -> Result<manifest::Inspection, Rejected> {
        let mut answer = match answer {
            Ok(answer) => answer,
            Err(reason) => return Ok(unknown(None, reason)),
        };
        for _ in 0..AGAIN_MAX {
            let own = match inspection.hash_kv(answer.compact) {
                Ok(own) if own.is(answer.hash) => return Ok(equal(&answer)),
                Ok(own) => return Err(self.disagreement(&answer, own.hash)),
                Err(Unknown::CompactedFurther { .. }) => match &self.question {
                    Some(question) => question.again(&answer).await,
                    None => Err("asking another member is turned off".into()),
                },
                Err(why) => Err(why.to_string()),
            };
            answer = match own {
                Ok(again) => again,
                Err(reason) => return Ok(unknown(Some(&answer), reason)),
            };
        }
        let text = format!("it is compacted up to {} only, the snapshot further", answer.compact);
        Ok(unknown(Some(&answer), text))
    }

    fn disagreement(&self, answer: &Answer, own: u32) -> Rejected {
        let Origin { member_id, revision, .. } = &self.origin;
        let (other, said) = (format!("{:016x}", answer.member), answer.hash);
        Rejected::Disagreement(if other == *member_id {
            format!(
                "the etcd member {other} disagrees with its own snapshot at revision {revision}: its HashKV is {said:08x}, the snapshot's {own:08x}"
            )
        } else {
            format!(
                "the etcd members {member_id} (which was read, HashKV {own:08x}) and {other} (HashKV {said:08x}) disagree: they hold different data at revision {revision}"
            )
        })
    }
}

fn equal(answer: &Answer) -> manifest::Inspection {
    manifest::Inspection {
        verdict: Verdict::Equal,
        compared_with: Some(format!("{:016x}", answer.member)),
        hash_kv: Some(format!("{:08x}", answer.hash)),
        hash_compact_revision: Some(answer.compact),
        ..manifest::Inspection::default()
    }
}

/// It stands in the manifest, which has a bound: several members' errors may be long.
fn shortened(mut reason: String) -> String {
    if reason.len() > REASON_MAX {
        reason.truncate(reason.floor_char_boundary(REASON_MAX));
        reason.push('…');
    }
    reason
}

fn unknown(answer: Option<&Answer>, reason: String) -> manifest::Inspection {
    manifest::Inspection {
        verdict: Verdict::Unknown,
        compared_with: answer.map(|answer| format!("{:016x}", answer.member)),
        reason: Some(shortened(reason)),
        ..manifest::Inspection::default()
    }
}
