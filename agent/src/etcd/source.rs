//! etcd's snapshot stream as the source of a backup.
//!
//! The order matters: first the member's status, then a linearizable read, then the stream. So the snapshot contains at
//! least the revision of that read; if it does not, the member's database is not the one that it reported.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backstay_archive::manifest::Origin;
use backstay_archive::writer::{Examination, Progress, Proof, Source, SourceError};
use backstay_protocol::bus::Member;
use backstay_snapshot::{Frames, Trailer};
use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use tonic::Streaming;
use tracing::debug;

use super::Etcd;
use super::connection::Connection;
use super::error::{EtcdError, describe};
use super::stream::Frame;

/// Which etcd answers, and its revision.
///
/// # Errors
/// As [`SnapshotSource::prepare`].
pub async fn origin(etcd: &Etcd) -> Result<Origin, EtcdError> {
    look(&mut etcd.connect().await?, None).await
}

async fn look(connection: &mut Connection, cluster: Option<u64>) -> Result<Origin, EtcdError> {
    let member = connection.member().await?;
    fit(&member, cluster)?;
    let revision = connection.revision().await?;
    Ok(Origin {
        etcd_cluster_id: format!("{:016x}", member.cluster_id),
        member_id: format!("{:016x}", member.member_id),
        etcd_version: member.etcd_version,
        revision,
    })
}

/// A snapshot. The stream is opened at the first [`Source::next`], since an open one keeps the member from reusing
/// pages of its database.
pub struct SnapshotSource {
    connection: Connection,
    origin: Origin,
    stream: Option<Streaming<Frame>>,
    frames: Frames,
    trailer: Option<Trailer>,
    /// The stream counts as stuck if no byte arrives for this long.
    stall: Duration,
    progress: Arc<Progress>,
    examination: Option<Examination>,
    /// Notified when the first bytes have arrived.
    begun: Option<oneshot::Sender<()>>,
}

impl SnapshotSource {
    /// Gets the member's status and makes the linearizable read. `cluster` is the etcd cluster id that is expected, if
    /// any. `examine` creates the inspection from what is read, the members that voted before the stream, and a
    /// notification about the stream's first bytes.
    ///
    /// # Errors
    /// The member cannot be reached, is not fit to be backed up, or has no quorum.
    pub async fn prepare(
        etcd: &Etcd,
        cluster: Option<u64>,
        stall: Duration,
        progress: Arc<Progress>,
        examine: impl FnOnce(&Origin, Vec<u64>, oneshot::Receiver<()>) -> Option<Examination>,
    ) -> Result<Self, EtcdError> {
        let mut connection = etcd.connect().await?;
        let origin = look(&mut connection, cluster).await?;
        // Before the stream: who votes now is no learner in what comes later.
        let voters = match connection.members().await {
            Ok(members) => members.iter().filter(|member| !member.learner).map(|member| member.id).collect(),
            Err(error) => {
                debug!(%error, "the members in the database were not compared with those of the cluster");
                Vec::new()
            }
        };
        let (begun, first_bytes) = oneshot::channel();
        Ok(Self {
            connection,
            examination: examine(&origin, voters, first_bytes),
            origin,
            stream: None,
            frames: Frames::default(),
            trailer: None,
            stall,
            progress,
            begun: Some(begun),
        })
    }

    /// Where the snapshot comes from.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The next bytes of the database. The time limit is for bytes, not frames, since a member with a broken disk sends
    /// empty frames forever.
    async fn pull(&mut self) -> Result<Option<Bytes>, EtcdError> {
        if self.trailer.is_some() {
            return Ok(None);
        }
        let deadline = Instant::now() + self.stall;
        if self.stream.is_none() {
            self.stream = Some(self.connection.snapshot(self.stall).await?);
        }
        loop {
            let Some(frame) = self.frame(deadline).await? else {
                self.trailer = Some(self.frames.finish()?);
                self.stream = None;
                return Ok(None);
            };
            let first = self.frames.total().is_none();
            let database = self.frames.feed(&frame.blob, frame.remaining_bytes)?;
            if first {
                self.progress.set_total(self.frames.total().unwrap_or(0));
            }
            if !database.is_empty() {
                // Nobody waits for it where no other member is asked.
                let _ = self.begun.take().map(|begun| begun.send(()));
                return Ok(Some(frame.blob.slice(database)));
            }
            // Empty frames that are always at hand would starve both the timer and everybody else.
            if Instant::now() >= deadline {
                return Err(self.stalled());
            }
            tokio::task::yield_now().await;
        }
    }

    async fn frame(&mut self, deadline: Instant) -> Result<Option<Frame>, EtcdError> {
        let stream = self.stream.as_mut().expect("opened before the first frame is asked for");
        match timeout_at(deadline, stream.message()).await {
            Ok(Ok(frame)) => Ok(frame),
            Ok(Err(error)) => {
                let cause = format!("{} (after {})", describe(&error.into()), self.so_far());
                let call = "read the snapshot stream";
                // Who has sent something speaks as we do: advice on the connection would mislead.
                Err(match self.frames.read() {
                    0 => self.connection.failed(call, cause),
                    _ => self.connection.said(call, cause),
                })
            }
            Err(_) => Err(self.stalled()),
        }
    }

    fn stalled(&self) -> EtcdError {
        let total = self.frames.total().map_or_else(|| "an unknown total".into(), |total| total.to_string());
        EtcdError::Stalled { seconds: self.stall.as_secs(), read: self.frames.read(), total }
    }

    fn so_far(&self) -> String {
        match self.frames.total() {
            Some(total) => format!("{} of {total} bytes", self.frames.read()),
            None => "no bytes".into(),
        }
    }
}

#[async_trait]
impl Source for SnapshotSource {
    async fn next(&mut self) -> Result<Option<Bytes>, SourceError> {
        self.pull().await.map_err(|e| SourceError(e.to_string()))
    }

    async fn proof(&mut self) -> Result<Proof, SourceError> {
        match &self.trailer {
            Some(trailer) => Ok(Proof { sha256: trailer.sha256, bytes: trailer.bytes, origin: self.origin.clone() }),
            None => Err(SourceError("the snapshot stream has not ended".into())),
        }
    }

    fn examination(&mut self) -> Option<Examination> {
        self.examination.take()
    }
}

/// Whether this member can be backed up.
fn fit(member: &Member, cluster: Option<u64>) -> Result<(), EtcdError> {
    let unfit = |text: String| Err(EtcdError::Unfit(text));
    let id = member.member_id;
    if let Some(expected) = cluster.filter(|&expected| expected != member.cluster_id) {
        let got = member.cluster_id;
        return unfit(format!("the etcd member {id:016x} belongs to cluster {got:016x}, not to {expected:016x}"));
    }
    if member.learner {
        return unfit(format!("the etcd member {id:016x} is a learner and may be missing data"));
    }
    if member.alarms.iter().any(|alarm| alarm == "CORRUPT") {
        return unfit(format!("the etcd member {id:016x} has a CORRUPT alarm"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unfit_member_is_refused_with_the_reason() {
        let member = Member { cluster_id: 0xAB, member_id: 1, ..Member::default() };
        let said = |change: &dyn Fn(&mut Member), cluster| {
            let mut member = member.clone();
            change(&mut member);
            fit(&member, cluster).map_err(|e| e.to_string())
        };
        assert_eq!(said(&|_| (), None), Ok(()));
        assert_eq!(said(&|_| (), Some(0xAB)), Ok(()));
        assert_eq!(said(&|m| m.alarms.push("NOSPACE".into()), None), Ok(()), "a full member is worth a backup");
        for (text, result) in [
            ("belongs to cluster 00000000000000ab, not to 0000000000000001", said(&|_| (), Some(1))),
            ("is a learner", said(&|m| m.learner = true, None)),
            ("CORRUPT", said(&|m| m.alarms.push("CORRUPT".into()), None)),
        ] {
            assert!(result.as_ref().is_err_and(|e| e.contains(text)), "{result:?}");
        }
    }
}
