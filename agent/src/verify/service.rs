//! Accepts the coordinator's verify commands, and verifies one backup at a time in a task of its own.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use backstay_archive::Manifest;
use backstay_archive::restore::{self, Examined, Look, Options};
use backstay_archive::seal::Identity;
use backstay_protocol::bus::{
    RefusalCode, Refused, Verified, VerifyCommand, VerifyFailure, VerifyReply, VerifyState, clipped,
    verify_reply::Answer,
};
use backstay_protocol::{VERSION, VerifyId};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::boot::{self, BootError, Ports, Revisions};
use super::settings::VerifySettings;
use super::verdict::{self, VerifyError};
use crate::attempt::job::refuse;
use crate::attempt::{Address, Attempts};
use crate::restore::folders::free_bytes;
use crate::stored_backup::{Named, StoredBackup};

/// Room in addition to the database: etcd's log, and what it writes while it starts.
const ROOM_BYTES: u64 = 256 * 1024 * 1024;

/// What the service needs.
pub struct VerifyDependencies {
    pub address: Address,
    pub settings: VerifySettings,
    /// The temporary folder into which a backup is restored.
    pub scratch: PathBuf,
    pub identity: Arc<Identity>,
    pub attempts: Arc<Attempts>,
    pub s3_ca: Option<PathBuf>,
}

/// What to verify; its fields have been checked.
struct Order {
    id: VerifyId,
    backup: StoredBackup,
    boot: bool,
}

struct Work {
    id: VerifyId,
    progress: Arc<restore::Progress>,
    total: u64,
    ended: Option<Result<Verified, Failed>>,
}

/// Why the verification failed, and where the fault is.
#[derive(Clone)]
struct Failed {
    text: String,
    fault: VerifyFailure,
}

impl From<VerifyError> for Failed {
    fn from(error: VerifyError) -> Self {
        Self { text: error.to_string(), fault: error.fault() }
    }
}

/// The service.
pub struct Verifications {
    deps: VerifyDependencies,
    work: Mutex<Option<Work>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Verifications {
    /// Also removes what an earlier process left of a temporary folder.
    pub fn new(deps: VerifyDependencies) -> Self {
        if let Err(error) = remove(&deps.scratch) {
            warn!(%error, folder = %deps.scratch.display(), "the scratch directory could not be removed");
        }
        Self { deps, work: Mutex::new(None), stop: CancellationToken::new(), tasks: TaskTracker::new() }
    }

    /// Begins the verification unless it is known already; returns how far it is.
    pub async fn command(self: &Arc<Self>, command: VerifyCommand) -> VerifyReply {
        let answer = match self.accept(command).await {
            Ok(state) => Answer::State(state),
            Err(refused) => {
                info!(reason = refused.text, "refused a verify command");
                Answer::Refused(refused)
            }
        };
        VerifyReply { version: VERSION, answer: Some(answer) }
    }

    async fn accept(self: &Arc<Self>, command: VerifyCommand) -> Result<VerifyState, Refused> {
        self.deps.address.check(&command.cluster, &command.machine)?;
        self.deps.attempts.see_epoch(command.epoch).await?;
        let invalid = |text: String| refuse(RefusalCode::Invalid, text);
        let order = self.parse(command).map_err(invalid)?;
        let mut work = self.work();
        match work.as_ref() {
            Some(known) if known.id == order.id => return Ok(state(known)),
            Some(other) if other.ended.is_none() => {
                return Err(refuse(RefusalCode::Busy, format!("verification {} is running", other.id)));
            }
            _ => {}
        }
        if order.boot {
            boot::program(self.deps.settings.etcd.as_deref()).map_err(|e| invalid(e.to_string()))?;
        }
        let begun = Work { id: order.id, progress: Arc::default(), total: 0, ended: None };
        let told = state(&begun);
        *work = Some(begun);
        drop(work);
        self.tasks.spawn(Arc::clone(self).run(order));
        Ok(told)
    }

    fn parse(&self, command: VerifyCommand) -> Result<Order, String> {
        let named = Named {
            cluster_uuid: &command.cluster_uuid,
            snapshot: &command.snapshot,
            store: command.store,
            sealed_identity: &command.sealed_identity,
            snapshot_sha256: &command.snapshot_sha256,
        };
        Ok(Order {
            id: command.verify.parse().map_err(|e: backstay_protocol::NameError| e.to_string())?,
            backup: StoredBackup::parse(named, &self.deps.identity, self.deps.s3_ca.clone())?,
            boot: command.boot,
        })
    }

    async fn run(self: Arc<Self>, order: Order) {
        info!(snapshot = %order.backup.snapshot, boot = order.boot, "verifying a backup");
        let result = self.prove(&order).await;
        if order.boot
            && let Err(error) = remove(&self.deps.scratch)
        {
            warn!(%error, "the scratch directory could not be removed; the next verification tries again");
        }
        match &result {
            Ok(_) => info!(snapshot = %order.backup.snapshot, "the backup is verified"),
            Err(error) => warn!(snapshot = %order.backup.snapshot, %error, "the backup failed verification"),
        }
        if let Some(work) = self.work().as_mut() {
            work.ended = Some(result.map_err(Failed::from));
        }
    }

    async fn prove(&self, order: &Order) -> Result<Verified, VerifyError> {
        let (store, manifest) = order.backup.find().await?;
        let progress = self.begin(&manifest);
        let look = Look { hash_at: Some(manifest.origin.revision), ..Look::default() };
        let ports = order.boot.then(Ports::find).transpose()?;
        let data = self.deps.scratch.join("data");
        let into = match &ports {
            Some(ports) => Some((data.as_path(), self.make_room(&manifest, ports)?)),
            None => None,
        };
        let identity = order.backup.identity.as_ref();
        let examined = restore::examine(&*store, &manifest, identity, into, look, &progress, &self.stop).await?;
        let mut verified = verdict::found(&examined);
        if let Some(ports) = &ports {
            self.boot(&examined, &data, ports, manifest.origin.revision, &mut verified).await?;
        }
        Ok(verified)
    }

    async fn boot(
        &self,
        examined: &Examined,
        data: &Path,
        ports: &Ports,
        hash: i64,
        verified: &mut Verified,
    ) -> Result<(), VerifyError> {
        let program = boot::program(self.deps.settings.etcd.as_deref())?;
        let keys = examined.inspection.contents.as_ref().ok().map(|contents| contents.revision);
        let at = Revisions { hash, keys };
        let patience = self.deps.settings.start_timeout;
        match boot::serve(&program, &self.deps.scratch, data, ports, patience, at).await {
            Ok(served) => verdict::compare(examined, &served, hash, verified),
            Err(ended @ BootError::Ended { .. }) => {
                Err(verdict::ended(ended, examined, boot::version(&program).await.as_deref()))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn begin(&self, manifest: &Manifest) -> Arc<restore::Progress> {
        match self.work().as_mut() {
            Some(work) => {
                work.total = manifest.snapshot_bytes;
                Arc::clone(&work.progress)
            }
            None => Arc::default(),
        }
    }

    /// Creates the temporary folder, checks that there is room for the database, and returns how to restore into it.
    fn make_room(&self, manifest: &Manifest, ports: &Ports) -> Result<Options, VerifyError> {
        let folder = self.deps.scratch.clone();
        let failed = |cause| VerifyError::Scratch { folder: folder.clone(), cause };
        remove(&folder).map_err(failed)?;
        make(&folder).map_err(failed)?;
        let free = free_bytes(&folder).map_err(failed)?;
        let wanted = manifest.snapshot_bytes.saturating_add(ROOM_BYTES);
        if free < wanted {
            return Err(VerifyError::Room { wanted, free, folder });
        }
        // Nobody has seen this cluster before: revisions stay, so that hashes can be compared.
        let options = Options::new(boot::MEMBER, vec![ports.member()]);
        Ok(Options { bump: None, mark_compacted: false, remove_alarms: true, remove_auth: true, ..options })
    }

    /// Cancels the running verification, and waits until its temporary folder is gone.
    pub async fn close(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn work(&self) -> MutexGuard<'_, Option<Work>> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn state(work: &Work) -> VerifyState {
    let (verified, failed) = match &work.ended {
        Some(Ok(verified)) => (Some(verified.clone()), None),
        Some(Err(failed)) => (None, Some(failed.clone())),
        None => (None, None),
    };
    VerifyState {
        verify: work.id.to_string(),
        ended: work.ended.is_some(),
        failure: failed.as_ref().map(|failed| failed.fault).unwrap_or_default().into(),
        error: failed.map(|failed| clipped(&failed.text)).unwrap_or_default(),
        bytes_done: work.progress.written.load(std::sync::atomic::Ordering::Relaxed),
        bytes_total: work.total,
        verified,
    }
}

/// Creates a new folder that only this user can read, since it will contain a whole database, and everybody may be
/// allowed to write to its parent.
fn make(folder: &Path) -> std::io::Result<()> {
    if let Some(parent) = folder.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::DirBuilder::new().mode(0o700).create(folder)
}

fn remove(folder: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_scratch_folder_is_new_and_for_nobody_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let scratch = folder.path().join("above/verify");
        make(&scratch).expect("writable");
        assert_eq!(std::fs::metadata(&scratch).expect("there").permissions().mode() & 0o777, 0o700);
        assert!(make(&scratch).is_err(), "what somebody else made is not used");
        remove(&scratch).expect("ours");
        remove(&scratch).expect("twice is fine");
    }
}
