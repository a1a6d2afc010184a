//! One backup from the machine's etcd to a store: the pipeline that `run` and `once` share.

use std::sync::Arc;
use std::time::Duration;

use backstay_archive::writer::{self, Limits, Plan, Progress, Rejected, WriteError};
use backstay_archive::{Manifest, Store, StoreError};
use backstay_protocol::Clock;
use backstay_protocol::bus::FailureCode;
use backstay_protocol::time::clock_is_off;
use tokio_util::sync::CancellationToken;

use crate::etcd::source::SnapshotSource;
use crate::etcd::{Etcd, EtcdError};
use crate::proof;
use crate::proof::settings::InspectionSettings;

/// What to back up, with which name, and for how long to try.
#[derive(Debug, Clone)]
pub struct Backup {
    pub plan: Plan,
    pub limits: Limits,
    /// For the whole attempt.
    pub deadline: Duration,
    /// The snapshot counts as stuck if no byte of it arrives for this long.
    pub stall: Duration,
    /// The etcd cluster id that is expected, if any.
    pub etcd_cluster: Option<u64>,
}

/// The member that is backed up, and how its snapshots are inspected.
#[derive(Clone)]
pub struct Member {
    pub etcd: Etcd,
    pub inspection: InspectionSettings,
}

/// Why there is no new backup: a code for programs and a line for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct BackupFailure {
    pub code: FailureCode,
    pub text: String,
}

impl BackupFailure {
    pub fn new(code: FailureCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    /// The same, with how far this machine's clock is off.
    fn beside_a_clock(self, off: Option<String>) -> Self {
        match off {
            Some(off) => Self { text: format!("{} (this machine's clock is {off})", self.text), ..self },
            None => self,
        }
    }
}

impl From<EtcdError> for BackupFailure {
    fn from(error: EtcdError) -> Self {
        Self::new(FailureCode::Source, error.to_string())
    }
}

impl From<StoreError> for BackupFailure {
    fn from(error: StoreError) -> Self {
        Self::new(FailureCode::Store, error.to_string())
    }
}

impl From<WriteError> for BackupFailure {
    fn from(error: WriteError) -> Self {
        let code = match &error {
            WriteError::Source(_) | WriteError::Total { .. } => FailureCode::Source,
            WriteError::Rejected(Rejected::Unfit(_)) => FailureCode::Source,
            WriteError::Rejected(Rejected::Disagreement(_)) => FailureCode::Disagreement,
            WriteError::Store(_) => FailureCode::Store,
            WriteError::NameTaken(_) => FailureCode::NameTaken,
            WriteError::SlotDone(_) => FailureCode::SlotDone,
            // The digest is taken from what the sealed form opens to: whoever changed a byte, it was on the way.
            WriteError::Digest { .. } | WriteError::Reopened(_) => FailureCode::Corruption,
            WriteError::Cancelled => FailureCode::Cancelled,
            WriteError::Manifest(_) | WriteError::Internal(_) => FailureCode::Internal,
        };
        Self::new(code, error.to_string())
    }
}

/// How long the store may take to say what time it is.
const TIME_TIMEOUT: Duration = Duration::from_secs(10);

/// How far this machine's clock is from the store's, in words; `None` if they agree, or the store does not say.
pub async fn clock_off(store: &dyn Store, clock: &dyn Clock) -> Option<String> {
    let asked = clock.now();
    let time = tokio::time::timeout(TIME_TIMEOUT, store.time()).await.ok()?.ok()??;
    let here = asked.as_millis().midpoint(clock.now().as_millis());
    clock_is_off(here.saturating_sub(time.as_millis()), "the store's")
}

/// A backup to make, and what is needed for it.
pub struct Taking<'a> {
    pub backup: &'a Backup,
    pub store: &'a Arc<dyn Store>,
    pub member: &'a Member,
    pub progress: &'a Arc<Progress>,
    pub clock: &'a dyn Clock,
    pub cancel: &'a CancellationToken,
}

impl Taking<'_> {
    /// Makes the backup. If it fails, no backup is visible that was not verified, and the upload is aborted before this
    /// returns.
    ///
    /// # Errors
    /// The [`FailureCode`] says whether it was etcd, the store, the deadline, a cancellation, or data that differs.
    pub async fn take(&self) -> Result<Manifest, BackupFailure> {
        match self.in_time().await {
            // A store refuses whoever's clock is far off, and does not always say why.
            Err(failure) if failure.code == FailureCode::Store && !self.cancel.is_cancelled() => {
                let off = self.cancel.run_until_cancelled(clock_off(&**self.store, self.clock)).await;
                Err(failure.beside_a_clock(off.flatten()))
            }
            result => result,
        }
    }

    async fn in_time(&self) -> Result<Manifest, BackupFailure> {
        let stop = self.cancel.child_token();
        let work = self.read_and_write(&stop);
        tokio::pin!(work);
        tokio::select! {
            result = &mut work => return result,
            () = tokio::time::sleep(self.backup.deadline) => stop.cancel(),
        }
        // The writer cleans up behind itself; it may also have been just about to succeed.
        work.await.map_err(|failure| match failure.code {
            FailureCode::Cancelled if !self.cancel.is_cancelled() => {
                let (seconds, so_far) = (self.backup.deadline.as_secs_f32(), so_far(self.progress));
                BackupFailure::new(
                    FailureCode::Deadline,
                    format!("the backup did not finish within {seconds}s: {so_far}"),
                )
            }
            _ => failure,
        })
    }

    async fn read_and_write(&self, stop: &CancellationToken) -> Result<Manifest, BackupFailure> {
        let Self { backup, progress, member: Member { etcd, inspection }, .. } = self;
        let examine = |origin: &_, voters, begun| proof::examination(etcd, inspection, origin, voters, begun);
        let prepare = SnapshotSource::prepare(etcd, backup.etcd_cluster, backup.stall, Arc::clone(progress), examine);
        let mut source = match stop.run_until_cancelled(prepare).await {
            Some(source) => source?,
            None => return Err(WriteError::Cancelled.into()),
        };
        let store = Arc::clone(self.store);
        Ok(writer::write(store, &backup.plan, &mut source, progress, &backup.limits, self.clock, stop).await?)
    }
}

fn so_far(progress: &Progress) -> String {
    match progress.total() {
        0 => "etcd had sent nothing".into(),
        total => format!("{} of {total} bytes read, {} stored", progress.read(), progress.stored()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backstay_archive::store::local::LocalStore;
    use backstay_daemon::SystemClock;
    use backstay_protocol::Timestamp;

    /// The machine's own clock, ahead by this many milliseconds.
    #[derive(Debug)]
    struct Ahead(i64);

    impl Clock for Ahead {
        fn now(&self) -> Timestamp {
            Timestamp::from_millis(SystemClock.now().as_millis() + self.0)
        }
    }

    #[tokio::test]
    async fn a_failure_of_the_store_s_says_how_far_this_clock_is_off() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = LocalStore::open(folder.path()).expect("it is there");
        let refused = async |ahead: i64| {
            let failure = BackupFailure::new(FailureCode::Store, "HTTP 403 Forbidden");
            failure.beside_a_clock(clock_off(&store, &Ahead(ahead)).await).text
        };
        for fine in [0, 30_000, -30_000] {
            assert_eq!(refused(fine).await, "HTTP 403 Forbidden");
        }
        for (off, way) in [(7_230_000, "ahead of"), (-7_230_000, "behind")] {
            let text = refused(off).await;
            let said = text.starts_with("HTTP 403 Forbidden (this machine's clock is 2h0m");
            assert!(said && text.ends_with(&format!("{way} the store's)")), "{text}");
        }
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0, "nothing is left there");
    }
}
