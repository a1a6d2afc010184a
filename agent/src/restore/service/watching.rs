//! Watches the etcd that was started, after a switch and after going back: whether it serves or has ended.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backstay_archive::blocking::blocking;
use backstay_protocol::bus::{EtcdAfter, MemberCheck};
use backstay_snapshot::release::Origin;
use tokio::time::Instant;

use crate::etcd::Etcd;
use crate::restore::check::check;
use crate::restore::control::{Control, ControlError, is_free};
use crate::restore::folders::Folders;
use crate::restore::life::{Life, Look};
use crate::restore::observation::Before;
use crate::restore::prepare::{PrepareError, Prepared};
use crate::restore::settings::ControlKind;

/// An etcd that does not answer within this counts as not running.
const ANSWER: Duration = Duration::from_secs(2);
/// How long to wait until the old etcd answers again. One that waits for a quorum may take as long as the others.
const SETTLE: Duration = Duration::from_secs(30);
/// The same for a static pod, since the kubelet may take long to start it.
const SETTLE_POD: Duration = Duration::from_secs(90);

/// How long the old etcd may take.
fn patience(kind: Option<ControlKind>) -> Duration {
    match kind {
        Some(ControlKind::StaticPod) => SETTLE_POD,
        _ => SETTLE,
    }
}

/// The etcd that this process started last.
#[derive(Debug, Default)]
struct Started {
    before: Before,
    life: Option<Life>,
    since: Option<Instant>,
    open: bool,
}

/// How etcd is after going back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct After {
    pub(super) etcd: EtcdAfter,
    pub(super) text: String,
}

/// Starts the machine's etcd and observes it.
pub(super) struct Watcher {
    etcd: Etcd,
    /// `None` if the settings do not say how.
    pub(super) control: Option<Control>,
    started: Mutex<Started>,
    /// How long the old etcd may take to answer again.
    pub(super) settle: Duration,
}

impl Watcher {
    pub(super) fn new(etcd: Etcd, control: Option<Control>, kind: Option<ControlKind>) -> Self {
        Self { etcd, control, started: Mutex::default(), settle: patience(kind) }
    }

    /// Starts etcd, and begins to observe it.
    pub(super) async fn start(&self, control: &Control) -> Result<(), String> {
        let before = control.before_start().await;
        self.started().before = before.clone();
        let outcome = control.start().await;
        let now = Instant::now();
        {
            let mut started = self.started();
            (started.life, started.since, started.open) = (Some(Life::started(control.kind(), now)), Some(now), false);
        }
        match outcome {
            Ok(()) => Ok(()),
            // Nothing ran, so nothing was said.
            Err(error @ (ControlError::Run { .. } | ControlError::Manifest { .. } | ControlError::NoManifest(..))) => {
                Err(error.to_string())
            }
            Err(error) => Err(format!("{error}; {}", control.last_words(&before).await)),
        }
    }

    /// Checks etcd on the new folder.
    ///
    /// # Errors
    /// Why it counts as dead, with its last messages.
    pub(super) async fn look(&self, folders: &Folders, hash_revision: i64) -> Result<MemberCheck, String> {
        let seen = check(&self.etcd, hash_revision).await;
        match self.dead(folders, seen.healthy).await {
            Some(reason) => Err(reason),
            None => Ok(seen),
        }
    }

    /// How the old etcd is: it answers, has ended, or its time is over; `None` while it has time left.
    pub(super) async fn settle(&self, folders: &Folders) -> Option<After> {
        let serves = self.answers().await;
        let dead = self.dead(folders, serves).await;
        let (time_is_up, open) = {
            let started = self.started();
            (started.since.is_none_or(|since| since.elapsed() >= self.settle), started.open)
        };
        Some(match (serves, dead) {
            (true, _) => After { etcd: EtcdAfter::Serves, text: String::new() },
            (false, Some(text)) => After { etcd: EtcdAfter::Down, text },
            (false, None) if !time_is_up => return None,
            (false, None) if open => {
                After { etcd: EtcdAfter::Runs, text: "it has opened its database but does not answer yet".into() }
            }
            (false, None) => {
                let text = "it was started, but no process has its database open";
                After { etcd: EtcdAfter::Down, text: format!("{text}; {}", self.words().await) }
            }
        })
    }

    /// Refuses if etcd runs on another folder than the one that would be moved, since it would not come back.
    pub(super) async fn is_open(&self, folders: &Folders) -> Result<(), String> {
        if !self.answers().await {
            return Ok(());
        }
        let database = folders.live_database();
        let shown = database.display().to_string();
        match blocking(move || is_free(&database)).await {
            Ok(false) => Ok(()),
            Ok(true) => Err(format!(
                "etcd is running, but does not have {shown} open: data_dir in [restore] is not its data \
                    directory"
            )),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Whether the machine's etcd answers, with or without a quorum.
    async fn answers(&self) -> bool {
        self.version().await.is_some()
    }

    /// The version of the machine's etcd, if it answers.
    async fn version(&self) -> Option<String> {
        let ask = async { self.etcd.connect().await?.member().await };
        let member = tokio::time::timeout(ANSWER, ask).await.ok()?.ok()?;
        Some(member.etcd_version)
    }

    /// Refuses a database on which this machine's etcd is known not to start. The coordinator could not know that if
    /// the manifest does not say how the database is marked.
    pub(super) async fn fits(&self, prepared: &Prepared) -> Result<(), PrepareError> {
        let Some(version) = self.version().await else { return Ok(()) };
        let origin = Origin { etcd: &prepared.taken_from, mark: &prepared.marked };
        origin.refusal(&version).map_or(Ok(()), |text| Err(PrepareError::Version(text)))
    }

    /// Why the etcd that was started counts as dead, with its last messages.
    async fn dead(&self, folders: &Folders, serves: bool) -> Option<String> {
        let control = self.control.as_ref()?;
        let before = self.started().before.clone();
        let look = match serves {
            true => Look { serves, ..Look::default() },
            false => control.look(&before, &folders.live_database()).await,
        };
        let now = Instant::now();
        let why = {
            let mut started = self.started();
            started.open = serves || look.open == Some(true);
            started.life.get_or_insert_with(|| Life::found(control.kind(), now)).note(&look, now)?
        };
        Some(format!("{why}; {}", self.words().await))
    }

    async fn words(&self) -> String {
        let before = self.started().before.clone();
        match &self.control {
            Some(control) => control.last_words(&before).await,
            None => String::new(),
        }
    }

    fn started(&self) -> MutexGuard<'_, Started> {
        self.started.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
