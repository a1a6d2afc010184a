//! The conclusion from the inspection of a snapshot and the answer of another member.

use std::time::Duration;

use backstay_archive::manifest::{self, Origin, Verdict};
use backstay_archive::writer::Rejected;
use backstay_snapshot::inspect::{HashKv, InspectError, Inspection, Member, Unknown};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::warn;

use super::ask::{Answer, Question};

/// How often a member is asked again if it has compacted less than the snapshot.
const AGAIN_MAX: usize = 8;

/// The most bytes of a reason in the manifest.
const REASON_MAX: usize = 1024;

/// The result of the inspection.
pub type Looked = Result<Inspection, InspectError>;

/// Decides whether one snapshot is worth keeping.
pub struct SnapshotCheck {
    pub origin: Origin,
    /// Ids of the members that voted before the stream began; empty if nobody could say.
    pub voters: Vec<u64>,
    /// `None`: nobody is asked.
    pub question: Option<Question>,
}

impl SnapshotCheck {
    /// Asks another member while the stream runs, from its first bytes on, and compares when the inspection has ended.
    /// No answer is not an error.
    ///
    /// # Errors
    /// [`Rejected::Unfit`] if the snapshot is not a complete database or too old; [`Rejected::Disagreement`] if another
    /// member has different data.
    pub async fn verdict(
        self,
        mut looked: oneshot::Receiver<Looked>,
        begun: oneshot::Receiver<()>,
    ) -> Result<manifest::Inspection, Rejected> {
        let asked = async {
            let Some(question) = &self.question else {
                return Err("comparing with another member is disabled".to_owned());
            };
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
            Err(_) => {
                unknown(None, format!("no answer within {}s after the end of the stream", patience.as_secs_f32()))
            }
        };
        let contents = manifest::Contents::of(&inspection, &self.origin.etcd_version);
        let members = inspection.contents.as_ref().map_or(&[][..], |contents| &contents.about.members);
        let promoted_learners = promoted_learners(members, &self.voters);
        let told = manifest::Inspection { contents, promoted_learners, ..verdict };
        if let Some(warning) = told.warning() {
            warn!("{warning}");
        }
        Ok(told)
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
                    "the snapshot of etcd member {member} ends at revision {is}, but the cluster was already at \
                     {demanded} when it was taken"
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
        let mut asked = 0;
        loop {
            let reason = match weigh(inspection.hash_kv(answer.compact), &answer) {
                Weighed::Equal => return Ok(equal(&answer)),
                Weighed::Differs(own) => return Err(self.disagreement(&answer, own)),
                Weighed::Unknown(reason) => reason,
                Weighed::Behind(reason) if asked == AGAIN_MAX => reason,
                Weighed::Behind(reason) => match &self.question {
                    Some(question) => match question.again(&answer).await {
                        Ok(again) => {
                            (answer, asked) = (again, asked + 1);
                            continue;
                        }
                        Err(reason) => reason,
                    },
                    None => reason,
                },
            };
            return Ok(unknown(Some(&answer), reason));
        }
    }

    fn disagreement(&self, answer: &Answer, own: u32) -> Rejected {
        let Origin { member_id, revision, .. } = &self.origin;
        let (other, said) = (format!("{:016x}", answer.member), answer.hash);
        Rejected::Disagreement(if other == *member_id {
            format!(
                "the etcd member {other} disagrees with its own snapshot at revision {revision}: its HashKV is \
                 {said:08x}, that of the snapshot is {own:08x}"
            )
        } else {
            format!(
                "the etcd members {member_id} (backed up, HashKV {own:08x}) and {other} (HashKV {said:08x}) disagree: \
                 they hold different data at revision {revision}"
            )
        })
    }
}

/// Members that vote, but are learners according to the database.
fn promoted_learners(members: &[Member], voters: &[u64]) -> Vec<String> {
    let promoted = members.iter().filter(|member| member.learner && voters.contains(&member.id));
    promoted.map(|member| format!("{:016x}", member.id)).collect()
}

/// The result of comparing an answer.
#[derive(Debug, PartialEq, Eq)]
enum Weighed {
    Equal,
    /// The snapshot's own hash.
    Differs(u32),
    /// The member has compacted less than the snapshot; a moment later it may have compacted as much.
    Behind(String),
    Unknown(String),
}

/// Compares a member's answer with the snapshot's hash for the same compact revision.
fn weigh(own: Result<HashKv, Unknown>, answer: &Answer) -> Weighed {
    match own {
        Ok(own) if own.is(answer.hash) => Weighed::Equal,
        Ok(own) => Weighed::Differs(own.hash),
        Err(Unknown::CompactedThere { left, .. }) if left.is(answer.hash) => Weighed::Equal,
        // It will say the same again: from 3.5 on etcd keeps the hash of each compaction.
        Err(Unknown::CompactedThere { at, .. }) => Weighed::Unknown(format!(
            "the cluster was compacted at its newest revision, {at}: etcd's hash for it covers data from before the \
             compaction, which is no longer in the snapshot. A backup made after the next write can be compared"
        )),
        Err(Unknown::CompactedFurther { file, member }) => Weighed::Behind(match member {
            ..1 => format!("it has not compacted anything yet, but the snapshot is compacted up to {file}"),
            _ => format!("it is compacted only up to {member}, the snapshot up to {file}"),
        }),
        Err(why) => Weighed::Unknown(why.to_string()),
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

/// The reason for the manifest, cut, since the errors of several members may be long and the size of a manifest is
/// limited.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_learner_is_told_only_where_it_votes() {
        let member = |id, learner| Member { id, name: String::new(), peer_urls: vec![], client_urls: vec![], learner };
        let members = [member(1, false), member(0xab, true), member(3, true)];
        assert_eq!(promoted_learners(&members, &[1, 0xab]), ["00000000000000ab"]);
        assert!(promoted_learners(&members, &[1]).is_empty() && promoted_learners(&[], &[1, 0xab]).is_empty());
    }

    #[test]
    fn only_who_is_behind_is_asked_again() {
        let answer = Answer { member: 7, hash: 0xab, compact: 3 };
        let (same, other) = (HashKv { hash: 0xab, newer: None }, HashKv { hash: 0xcd, newer: None });
        assert_eq!(weigh(Ok(same), &answer), Weighed::Equal);
        assert_eq!(weigh(Ok(other), &answer), Weighed::Differs(0xcd));
        let there = |left| Err(Unknown::CompactedThere { at: 9, member: 3, left });
        assert_eq!(weigh(there(same), &answer), Weighed::Equal, "nothing was compacted away");
        for (own, says) in [
            (there(other), "compacted at its newest revision, 9"),
            (Err(Unknown::CompactedBeyond { at: 9, file: 11 }), "meanwhile compacted up to 11, beyond revision 9"),
            (Err(Unknown::Memory(5)), "5 bytes of memory"),
        ] {
            let weighed = weigh(own, &answer);
            assert!(matches!(&weighed, Weighed::Unknown(reason) if reason.contains(says)), "{weighed:?}");
        }
        for (member, says) in
            [(-1, "anything yet, but the snapshot is compacted up to 8"), (3, "only up to 3, the snapshot up to 8")]
        {
            let weighed = weigh(Err(Unknown::CompactedFurther { file: 8, member }), &answer);
            assert!(matches!(&weighed, Weighed::Behind(reason) if reason.contains(says)), "{weighed:?}");
        }
    }
}
