//! Accepts attempts, cancels them and reports how they ended.
//!
//! At most one is under way; its place is taken before any work is done for it. A final report is on disk before the
//! attempt counts as ended, and the journal of the attempt is removed last. So whenever the process dies, either the
//! report is there or a journal from which a report can be made.

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use backstay_archive::Manifest;
use backstay_archive::blocking::blocking;
use backstay_archive::seal::Identity;
use backstay_archive::writer::Progress;
use backstay_protocol::bus::{
    self, Accepted, CancelBackup, CancelReply, Failed, FailureCode, Finished, RefusalCode, Refused, Report,
    StartBackup, StartReply, Started, report::State, start_reply::Answer,
};
use backstay_protocol::hex::from_hex;
use backstay_protocol::subject::Subject;
use backstay_protocol::{AttemptId, Clock, VERSION};
use futures::FutureExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::{Instrument, error, error_span, info, warn};

use super::job::refuse;
use super::totals::{Metrics, Totals};
use super::{Address, BackupFailure, Job, Member, Taking};
use crate::outbox::{Outbox, Record};
use crate::state::StateDir;

/// The attempt that is under way.
#[derive(Debug, Clone)]
pub struct Running {
    pub attempt: AttemptId,
    pub progress: Arc<Progress>,
    cancel: CancellationToken,
}

impl Running {
    pub fn message(&self) -> bus::Progress {
        bus::Progress {
            version: VERSION,
            attempt: self.attempt.to_string(),
            bytes_read: self.progress.read(),
            bytes_total: self.progress.total(),
            bytes_stored: self.progress.stored(),
            parts_retried: self.progress.retried(),
        }
    }
}

/// What the service needs.
pub struct AttemptDependencies {
    pub address: Address,
    pub member: Member,
    pub identity: Arc<Identity>,
    pub state: Arc<StateDir>,
    pub outbox: Arc<Outbox>,
    pub clock: Arc<dyn Clock>,
    pub s3_ca: Option<PathBuf>,
}

struct Book {
    running: Option<Running>,
    stopping: bool,
    /// Whether a restore is running on this machine: then no attempt begins.
    held: bool,
    epoch: u64,
    /// Final reports of the last attempts, oldest first.
    ended: Vec<Report>,
    /// Of all attempts except the one under way.
    totals: Totals,
}

/// The service.
pub struct Attempts {
    deps: AttemptDependencies,
    book: Mutex<Book>,
    metrics: Metrics,
    tasks: TaskTracker,
}

/// What a command to start means, given what is recorded.
enum Claim {
    /// The token keeps [`Attempts::idle`] waiting until the attempt has its task.
    New(Running, TaskTrackerToken),
    UnderWay,
    Ended(Box<Report>),
}

impl Attempts {
    /// Continues where the last process stopped: an attempt that was under way then is reported as failed.
    pub fn new(deps: AttemptDependencies) -> Self {
        let mut ended = deps.state.ended();
        recover(&deps, &mut ended);
        let epoch = deps.state.epoch();
        let book = Book { running: None, stopping: false, held: false, epoch, ended, totals: Totals::default() };
        Self { deps, book: Mutex::new(book), metrics: Metrics::default(), tasks: TaskTracker::new() }
    }

    /// The attempt under way.
    pub fn running(&self) -> Option<Running> {
        self.book().running.clone()
    }

    /// What all attempts have read and stored since the agent was started, including the one under way. Never
    /// decreases.
    pub fn totals(&self) -> Totals {
        let book = self.book();
        book.running.as_ref().map_or(book.totals, |running| book.totals.with(&running.progress))
    }

    /// How attempts ended since the agent was started.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Starts an attempt, or refuses. Repeating the command is safe.
    pub async fn start(self: &Arc<Self>, command: StartBackup) -> StartReply {
        let attempt = command.attempt.clone();
        let answer = match self.accept(command).await {
            Ok(()) => Answer::Accepted(Accepted { attempt }),
            Err(refused) => {
                info!(attempt, reason = refused.text, "refused the attempt");
                Answer::Refused(refused)
            }
        };
        StartReply { version: VERSION, answer: Some(answer) }
    }

    async fn accept(self: &Arc<Self>, command: StartBackup) -> Result<(), Refused> {
        self.deps.address.check(&command.cluster, &command.machine)?;
        self.see_epoch(command.epoch).await?;
        let job = Job::parse(command, &self.deps.identity, self.deps.s3_ca.clone())?;
        match self.claim(job.backup.plan.attempt)? {
            Claim::UnderWay => Ok(()),
            Claim::Ended(report) => {
                self.send(*report).await;
                Ok(())
            }
            Claim::New(running, _token) => {
                self.journal(&job).await;
                // Of the highest level: a log of warnings alone still says which attempt each belongs to.
                let span = error_span!("backup", attempt = %running.attempt);
                self.tasks.spawn(Arc::clone(self).run(job, running).instrument(span));
                Ok(())
            }
        }
    }

    /// Reserves the only place for this attempt, or returns what is known about it already.
    fn claim(&self, attempt: AttemptId) -> Result<Claim, Refused> {
        let mut book = self.book();
        let id = attempt.to_string();
        if let Some(report) = book.ended.iter().find(|r| r.attempt == id) {
            return Ok(Claim::Ended(Box::new(report.clone())));
        }
        match &book.running {
            Some(running) if running.attempt == attempt => return Ok(Claim::UnderWay),
            _ if book.held => return Err(refuse(RefusalCode::Busy, "a restore is running on this machine")),
            _ if book.stopping => return Err(refuse(RefusalCode::Stopping, "the agent is stopping")),
            Some(running) => {
                let text = format!("attempt {} is running", running.attempt);
                return Err(refuse(RefusalCode::Busy, text));
            }
            None => {}
        }
        let running = Running { attempt, progress: Arc::default(), cancel: CancellationToken::new() };
        book.running = Some(running.clone());
        Ok(Claim::New(running, self.tasks.token()))
    }

    /// Cancels an attempt if it is under way; its end is reported like any other.
    pub async fn cancel(&self, command: CancelBackup) -> CancelReply {
        let allowed = self.see_epoch(command.epoch).await;
        if let Err(reason) = &allowed {
            info!(attempt = command.attempt, reason = reason.text, "refused a cancellation");
        }
        let running = self.running().filter(|r| allowed.is_ok() && r.attempt.to_string() == command.attempt);
        if let Some(running) = &running {
            info!(attempt = command.attempt, "cancelling the attempt");
            running.cancel.cancel();
        }
        CancelReply { version: VERSION, cancelled: running.is_some() }
    }

    /// Remembers the newest epoch, and refuses an older one, whose coordinator has been replaced.
    pub(crate) async fn see_epoch(&self, epoch: u64) -> Result<(), Refused> {
        {
            let mut book = self.book();
            if epoch < book.epoch {
                let text = format!("epoch {epoch} is older than {}", book.epoch);
                return Err(Refused { newest_epoch: book.epoch, ..refuse(RefusalCode::StaleEpoch, text) });
            }
            if epoch == book.epoch {
                return Ok(());
            }
            book.epoch = epoch;
        }
        let state = Arc::clone(&self.deps.state);
        if let Err(error) = blocking(move || state.set_epoch(epoch)).await {
            warn!(%error, "the epoch could not be saved; it is kept in memory only");
        }
        Ok(())
    }

    /// Writes the journal of the attempt. A backup matters more than its journal: if the disk refuses it, the attempt
    /// continues.
    async fn journal(&self, job: &Job) {
        let (state, report) = (Arc::clone(&self.deps.state), job.report(&self.deps.address));
        if let Err(error) = blocking(move || state.begin(&report)).await {
            warn!(%error, "continuing the attempt without a journal: after a crash it would not be reported");
        }
    }

    async fn run(self: Arc<Self>, job: Job, running: Running) {
        let (template, begun) = (job.report(&self.deps.address), Instant::now());
        info!(snapshot = template.snapshot, slot = template.slot, "starting the attempt");
        self.send(self.stamp(&template, State::Started(Started {}))).await;
        let result = AssertUnwindSafe(self.work(job, &running)).catch_unwind().await;
        let result = result
            .unwrap_or_else(|_| Err(BackupFailure::new(FailureCode::Internal, "the agent failed; see its log")))
            .and_then(|manifest| finished(&manifest, &running.progress).map(|finished| (manifest, finished)))
            .map_err(|failure| self.explain(failure));
        let state = match result {
            Ok((manifest, finished)) => {
                info!(
                    revision = manifest.origin.revision,
                    snapshot_bytes = manifest.snapshot_bytes,
                    sealed_bytes = manifest.sealed_bytes,
                    "the backup is verified and stored"
                );
                State::Finished(finished)
            }
            Err(failure) => {
                warn!(code = failure.code.as_str_name(), error = failure.text, "the attempt failed");
                State::Failed(Failed { code: failure.code.into(), text: bus::clipped(&failure.text) })
            }
        };
        self.metrics.count(&state, begun.elapsed());
        self.end(self.stamp(&template, state)).await;
    }

    async fn work(&self, job: Job, running: &Running) -> Result<Manifest, BackupFailure> {
        let Running { progress, cancel, .. } = running;
        let cancelled = || BackupFailure::new(FailureCode::Cancelled, "cancelled");
        let store = cancel.run_until_cancelled(job.store.open()).await.ok_or_else(cancelled)??;
        let (member, clock) = (&self.deps.member, &*self.deps.clock);
        Taking { backup: &job.backup, store: &store, member, progress, clock, cancel }.take().await
    }

    /// Says why an attempt was cancelled.
    fn explain(&self, mut failure: BackupFailure) -> BackupFailure {
        if failure.code == FailureCode::Cancelled {
            let stopping = self.book().stopping;
            let why =
                if stopping { "the agent was stopped during the attempt" } else { "cancelled by the coordinator" };
            failure.text = why.into();
        }
        failure
    }

    fn stamp(&self, template: &Report, state: State) -> Report {
        Report { at_ms: self.deps.clock.now().as_millis(), state: Some(state), ..template.clone() }
    }

    /// Puts a report into the outbox.
    async fn send(&self, report: Report) {
        let (outbox, record) = (Arc::clone(&self.deps.outbox), record(&self.deps.address, &report));
        if let Err(error) = blocking(move || outbox.add(record)).await {
            warn!(%error, "a report could not be saved; it is kept in memory only");
        }
    }

    /// Makes the report final: it is remembered and put into the outbox, and only then is the place free again.
    async fn end(&self, report: Report) {
        let mut ended = self.book().ended.clone();
        ended.push(report);
        let keep = Arc::clone(&self.deps.state);
        let (outbox, address) = (Arc::clone(&self.deps.outbox), self.deps.address.clone());
        let ended = blocking(move || {
            conclude(&keep, &outbox, &address, &ended);
            ended
        })
        .await;
        let mut book = self.book();
        book.ended = ended;
        if let Some(running) = book.running.take() {
            book.totals = book.totals.with(&running.progress);
        }
    }

    /// While `held`, no attempt can begin. Returns false, and changes nothing, if one is under way.
    pub(crate) fn hold(&self, held: bool) -> bool {
        let mut book = self.book();
        let free = !held || book.running.is_none();
        if free {
            book.held = held;
        }
        free
    }

    /// Refuses new attempts from now on, and cancels the one under way.
    pub fn stop(&self) {
        let mut book = self.book();
        book.stopping = true;
        if let Some(running) = &book.running {
            info!(attempt = %running.attempt, "cancelling the attempt: the agent is stopping");
            running.cancel.cancel();
        }
        self.tasks.close();
    }

    /// Waits, after [`stop`](Self::stop), until the attempt that was under way has ended.
    pub async fn idle(&self) {
        self.tasks.wait().await;
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes the last of `ended` to disk as final, in an order in which a crash between any two steps loses nothing.
fn conclude(state: &StateDir, outbox: &Outbox, address: &Address, ended: &[Report]) {
    let Some(report) = ended.last() else { return };
    if let Err(error) = state.set_ended(ended) {
        warn!(%error, "the report could not be saved; it is kept in memory only");
    }
    match outbox.add(record(address, report)) {
        Ok(()) => {
            if let Err(error) = state.end() {
                warn!(%error, "the journal of the attempt could not be removed");
            }
        }
        // With the journal left, a crash makes a report of it.
        Err(error) => error!(%error, "the final report could not be saved; it is kept in memory only"),
    }
}

/// Reports the attempt that was under way when the last process died.
fn recover(deps: &AttemptDependencies, ended: &mut Vec<Report>) {
    let Some(template) = deps.state.interrupted() else { return };
    let known = ended.iter().position(|r| r.attempt == template.attempt);
    let report = match known {
        Some(at) => ended.remove(at),
        None => {
            warn!(attempt = template.attempt, "the agent was restarted during this attempt");
            let text = "the agent was restarted during the attempt".into();
            let state = Some(State::Failed(Failed { code: FailureCode::Internal.into(), text }));
            Report { at_ms: deps.clock.now().as_millis(), state, ..template }
        }
    };
    ended.push(report);
    conclude(&deps.state, &deps.outbox, &deps.address, ended);
}

fn record(address: &Address, report: &Report) -> Record {
    let Address { cluster, machine } = address.clone();
    Record::new(Subject::Report { cluster, machine }.to_string(), report)
}

fn finished(manifest: &Manifest, progress: &Progress) -> Result<Finished, BackupFailure> {
    let unreadable = |error| {
        let text = format!("the backup is stored, but the sha256 in its manifest is invalid: {error}");
        BackupFailure::new(FailureCode::Internal, text)
    };
    Ok(Finished {
        revision: manifest.origin.revision,
        snapshot_bytes: manifest.snapshot_bytes,
        sealed_bytes: manifest.sealed_bytes,
        snapshot_sha256: from_hex(&manifest.snapshot_sha256).map_err(unreadable)?.into(),
        parts_retried: progress.retried(),
    })
}
