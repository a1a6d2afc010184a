//! Accepts the coordinator's restore commands, carries them out in a task of its own, and reports how far it is.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backstay_archive::blocking::blocking;
use backstay_archive::seal::Identity;
use backstay_daemon::trouble::Shared;
use backstay_protocol::bus::{
    EtcdAfter, RefusalCode, Refused, RestoreCommand, RestoreReply, RestoreState, restore_reply::Answer,
};
use backstay_protocol::{RestoreId, VERSION};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::control::Control;
use super::folders::Folders;
use super::journal::{Action, Goal, Hands, Journal, JournalStep};
use super::prepare::{Order, PrepareError, Prepared, prepare};
use super::settings::RestoreSettings;
use crate::attempt::job::refuse;
use crate::attempt::{Address, Attempts};
use crate::etcd::Etcd;
use crate::state::{StateDir, StateError};

mod book;
mod watching;

use book::Book;
use watching::{After, Watcher};

const JOURNAL: &str = "restore";
const LOG: &str = "restore.log";
/// The pause between two observations of an etcd that was started.
const CHECK_PAUSE: Duration = Duration::from_millis(500);
/// After how long a failed step back is tried again, since only this agent can do it.
const RETURN_PAUSE: Duration = Duration::from_secs(2);
/// Between two looks at the folders that a restore left.
const LEFT_PAUSE: Duration = Duration::from_secs(60);
/// How often starting the old etcd is tried. What matters is that its folder is back: if a member waits for a quorum,
/// starting it may fail for as long as the others are down.
const START_TRIES: u32 = 3;

/// What the service needs.
pub struct RestoreDependencies {
    pub address: Address,
    pub settings: RestoreSettings,
    pub etcd: Etcd,
    pub identity: Arc<Identity>,
    pub state: Arc<StateDir>,
    pub attempts: Arc<Attempts>,
    pub s3_ca: Option<PathBuf>,
}

/// The service.
pub struct Restores {
    deps: RestoreDependencies,
    path: PathBuf,
    book: Mutex<Book>,
    watcher: Watcher,
    /// Held from reading the journal until it is on disk, since both commands and the task change it.
    writing: tokio::sync::Mutex<()>,
    /// Held while a folder is being prepared.
    building: tokio::sync::Mutex<()>,
    changed: Notify,
    /// What was logged about actions that fail again and again.
    told: Shared,
}

/// How `[restore]` says that etcd is controlled.
pub fn control(settings: &RestoreSettings, state: &StateDir) -> Option<Control> {
    Control::new(settings, state.file(LOG))
}

impl Restores {
    /// Continues with what the last process left.
    ///
    /// # Errors
    /// There is a journal that cannot be read.
    pub fn open(deps: RestoreDependencies) -> Result<Self, StateError> {
        let path = deps.state.file(JOURNAL);
        let journal = Journal::load(&path)?;
        if let Some(journal) = journal.as_ref().filter(|journal| !journal.has_ended()) {
            warn!(restore = %journal.restore, step = ?journal.step, "the agent was restarted during a restore");
        }
        deps.attempts.hold(journal.as_ref().is_some_and(|journal| !journal.has_ended()));
        let control = control(&deps.settings, &deps.state);
        Ok(Self {
            watcher: Watcher::new(deps.etcd.clone(), control, deps.settings.control),
            deps,
            path,
            book: Mutex::new(Book::taken_up(journal)),
            writing: tokio::sync::Mutex::default(),
            building: tokio::sync::Mutex::default(),
            changed: Notify::new(),
            told: Shared::default(),
        })
    }

    /// How far the latest restore is; `None` if there never was one.
    pub fn state(&self) -> Option<RestoreState> {
        self.book().state()
    }

    /// The etcd cluster id of a restore here that has not ended and may still be undone.
    pub fn unsettled_cluster(&self) -> Option<u64> {
        let book = self.book();
        let journal = book.journal.as_ref().filter(|journal| !journal.has_ended())?;
        Some(journal.new_cluster_id).filter(|id| *id != 0)
    }

    /// Answers a command; [`run`](Self::run) carries it out.
    pub async fn command(&self, command: RestoreCommand) -> RestoreReply {
        let answer = match self.accept(command).await {
            Ok(state) => Answer::State(state),
            Err(refused) => {
                info!(reason = refused.text, "refused a restore command");
                Answer::Refused(refused)
            }
        };
        RestoreReply { version: VERSION, answer: Some(answer) }
    }

    async fn accept(&self, command: RestoreCommand) -> Result<RestoreState, Refused> {
        self.deps.address.check(&command.cluster, &command.machine)?;
        self.deps.attempts.see_epoch(command.epoch).await?;
        let invalid = |text: String| refuse(RefusalCode::Invalid, text);
        let restore: RestoreId = command.restore.parse().map_err(|e| invalid(format!("{e}")))?;
        let goal = Goal::from_wire(command.goal()).ok_or_else(|| invalid("the command has no goal".into()))?;
        let _one_at_a_time = self.writing.lock().await;
        let known = self.book().journal.as_ref().map(|journal| (journal.restore, journal.has_ended()));
        match known {
            Some((id, _)) if id == restore => self.go_on(goal, command).await?,
            Some((id, false)) => return Err(refuse(RefusalCode::Busy, format!("restore {id} is running"))),
            _ if goal == Goal::Prepare => self.begin(restore, command).await?,
            // Nothing was ever begun here: all is as before.
            _ if goal == Goal::PutBack => {
                return Ok(RestoreState {
                    restore: restore.to_string(),
                    step: JournalStep::Returned.to_wire().into(),
                    ..RestoreState::default()
                });
            }
            _ => return Err(invalid(format!("restore {restore} was never prepared on this machine"))),
        }
        Ok(self.state().unwrap_or_default())
    }

    async fn begin(&self, restore: RestoreId, command: RestoreCommand) -> Result<(), Refused> {
        let invalid = |text: String| refuse(RefusalCode::Invalid, text);
        let Some(data_dir) = self.deps.settings.data_dir.as_ref().filter(|_| self.watcher.control.is_some()) else {
            return Err(invalid("this agent cannot restore: [restore] is not set in its agent.toml".into()));
        };
        let order = self.order(command)?;
        let folders = Folders::of(data_dir, restore, &order.aside_suffix).map_err(|e| invalid(e.to_string()))?;
        self.watcher.is_open(&folders).await.map_err(invalid)?;
        if !self.deps.attempts.hold(true) {
            return Err(refuse(RefusalCode::Busy, "a backup is running on this machine"));
        }
        let journal = Journal::new(restore, folders.clone(), folders.see().live);
        if let Err(refused) = self.keep(&journal).await {
            self.deps.attempts.hold(false);
            return Err(refused);
        }
        info!(%restore, folder = %folders.live.display(), "starting a restore");
        *self.book() = Book::begun(journal, order);
        self.changed.notify_one();
        Ok(())
    }

    fn order(&self, command: RestoreCommand) -> Result<Order, Refused> {
        let plan = command.plan.ok_or_else(|| refuse(RefusalCode::Invalid, "the command has no plan"))?;
        let order = Order::parse(plan, &self.deps.identity, self.deps.s3_ca.clone());
        order.map_err(|text| refuse(RefusalCode::Invalid, text))
    }

    async fn go_on(&self, goal: Goal, command: RestoreCommand) -> Result<(), Refused> {
        let Some(mut journal) = self.book().journal.clone() else { return Ok(()) };
        let hash_revision = command.hash_revision;
        // After a restart the plan is not known any more: it comes with the next command.
        if journal.step == JournalStep::Preparing && goal == Goal::Prepare && self.book().order.is_none() {
            let order = Arc::new(self.order(command)?);
            self.book().order = Some(order);
            self.changed.notify_one();
        }
        let new = journal.take(goal).map_err(|e| refuse(RefusalCode::Invalid, e.to_string()))?;
        if new {
            info!(restore = %journal.restore, ?goal, "the restore continues");
            if let Err(refused) = self.keep(&journal).await {
                if goal != Goal::PutBack || journal.touched {
                    return Err(refused);
                }
                self.make_way(&journal, refused.text).await?;
                self.keep(&journal).await?;
            }
            self.book().cancel.cancel();
        }
        let ended = journal.has_ended();
        let mut book = self.book();
        book.hash_revision = hash_revision;
        if new {
            (book.journal, book.error, book.check) = (Some(journal), String::new(), None);
            (book.hands, book.cancel) = (Hands::default(), CancellationToken::new());
            book.left_is_old(goal);
            drop(book);
            if ended {
                self.deps.attempts.hold(false);
            }
            self.changed.notify_one();
        }
        Ok(())
    }

    /// Removes the prepared folder if the journal cannot be written: it may be what filled the disk, and is no longer
    /// needed.
    async fn make_way(&self, journal: &Journal, error: String) -> Result<(), Refused> {
        {
            let mut book = self.book();
            // First: nothing is prepared again meanwhile.
            book.error = error;
            book.cancel.cancel();
        }
        let _nobody_prepares = self.building.lock().await;
        let folders = journal.folders.clone();
        blocking(move || folders.discard()).await.map_err(|e| refuse(RefusalCode::Invalid, e.to_string()))
    }

    /// Saves the journal: a goal that is not on disk was not accepted.
    async fn keep(&self, journal: &Journal) -> Result<(), Refused> {
        let (journal, path) = (journal.clone(), self.path.clone());
        let kept = blocking(move || journal.save(&path)).await;
        kept.map_err(|e| refuse(RefusalCode::Invalid, format!("the journal of the restore cannot be written: {e}")))
    }

    /// Carries out what the journal says until `stop` is cancelled. An action that has begun is finished, except
    /// preparing.
    pub async fn run(&self, stop: &CancellationToken) {
        loop {
            let pause = self.act(stop).await;
            let wait = async {
                match pause {
                    Pause::None => {}
                    Pause::For(time) => tokio::time::sleep(time).await,
                    Pause::UntilChanged => std::future::pending().await,
                }
            };
            tokio::select! {
                () = wait => {}
                () = self.changed.notified() => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Carries out one action.
    async fn act(&self, stop: &CancellationToken) -> Pause {
        let (journal, hands, cancel) = {
            let book = self.book();
            let Some(journal) = book.journal.clone() else { return Pause::UntilChanged };
            if !book.error.is_empty() && journal.step != JournalStep::Returning {
                return Pause::UntilChanged;
            }
            (journal, book.hands, book.cancel.clone())
        };
        let (folders, watched) = (journal.folders.clone(), journal.clone());
        let action = watched.next(blocking(move || folders.see()).await, hands);
        if action != Action::Stop && action != Action::Start && self.book().is_unsettled(&journal) {
            return self.settle(&journal).await;
        }
        let done = match action {
            Action::Rest => return self.rest(&journal).await,
            Action::Watch => return self.watch(&journal).await,
            Action::Build => {
                let Some(order) = self.book().order.clone() else { return Pause::UntilChanged };
                match self.build(&order, &journal, &cancel, stop).await {
                    Err(PrepareError::Cancelled) => return Pause::None,
                    Err(error) => Err(error.to_string()),
                    Ok(prepared) => {
                        self.watcher.fits(&prepared).await.map(|()| Some(prepared)).map_err(|e| e.to_string())
                    }
                }
            }
            other => self.perform(other, &journal).await.map(|()| None),
        };
        match done {
            Ok(prepared) => self.note(&journal, action, prepared).await,
            Err(error) => {
                if action == Action::Discard {
                    self.note_left(&journal).await;
                }
                self.fail(&journal, action, error)
            }
        }
    }

    /// Nothing is to be done. Of a restore that has ended, the folders that are left are looked for again: people delete them.
    async fn rest(&self, journal: &Journal) -> Pause {
        if !journal.has_ended() {
            return Pause::UntilChanged;
        }
        self.note_left(journal).await;
        match self.book().left.as_deref() {
            None | Some([]) => Pause::UntilChanged,
            Some(_) => Pause::For(LEFT_PAUSE),
        }
    }

    async fn build(
        &self,
        order: &Order,
        journal: &Journal,
        cancel: &CancellationToken,
        stop: &CancellationToken,
    ) -> Result<Prepared, PrepareError> {
        let _building = self.building.lock().await;
        let progress = Arc::clone(&self.book().progress);
        let build = prepare(order, &journal.folders, &progress, cancel);
        tokio::pin!(build);
        tokio::select! {
            prepared = &mut build => return prepared,
            () = stop.cancelled() => cancel.cancel(),
        }
        build.await
    }

    async fn perform(&self, action: Action, journal: &Journal) -> Result<(), String> {
        let control = || self.watcher.control.as_ref().ok_or("[restore] is no longer set in agent.toml");
        let folders = journal.folders.clone();
        let text = |e: super::folders::FolderError| e.to_string();
        match action {
            Action::Stop => {
                if journal.step == JournalStep::Stopping {
                    self.watcher.is_open(&folders).await?;
                }
                info!(restore = %journal.restore, "stopping etcd");
                control()?.stop(&folders.databases()).await.map_err(|e| e.to_string())
            }
            Action::Start => {
                info!(restore = %journal.restore, "starting etcd");
                self.watcher.start(control()?).await
            }
            Action::SetAside => blocking(move || folders.rename(&folders.live, &folders.aside)).await.map_err(text),
            Action::Place => blocking(move || folders.rename(&folders.fresh, &folders.live)).await.map_err(text),
            Action::Unplace => blocking(move || folders.rename(&folders.live, &folders.fresh)).await.map_err(text),
            Action::MoveStranger => {
                blocking(move || folders.rename(&folders.live, &folders.unexpected())).await.map_err(text)
            }
            Action::Return => blocking(move || folders.rename(&folders.aside, &folders.live)).await.map_err(text),
            Action::Discard => {
                let ran = journal.ran;
                let kept = blocking(move || {
                    let kept = if ran { folders.keep_what_ran()? } else { None };
                    folders.discard().map(|()| kept)
                });
                if let Some(kept) = kept.await.map_err(text)? {
                    warn!(folder = %kept.display(), "etcd had already run on the restored data: it is kept for you to \
                        delete");
                }
                Ok(())
            }
            Action::Confused(text) => Err(text.into()),
            Action::Note(_) | Action::Rest | Action::Watch | Action::Build => Ok(()),
        }
    }

    /// The action is done: records that in the journal before the next one.
    async fn note(&self, journal: &Journal, action: Action, prepared: Option<Prepared>) -> Pause {
        let mut next = journal.clone();
        if let Some(prepared) = prepared {
            (next.digest, next.new_cluster_id) = (prepared.digest, prepared.cluster_id);
        }
        if let Some(step) = journal.after(action) {
            next.step = step;
        }
        let steps_on = next.step != journal.step && matches!(next.step, JournalStep::Switched | JournalStep::Returned);
        if steps_on || action == Action::Discard {
            self.note_left(journal).await;
        }
        let _one_at_a_time = self.writing.lock().await;
        // Another goal may have come meanwhile: it counts, and what was done is seen from the folders.
        if self.book().journal.as_ref() != Some(journal) {
            return Pause::None;
        }
        if next != *journal {
            if let Err(refused) = self.keep(&next).await {
                return self.fail(journal, action, refused.text);
            }
            info!(restore = %next.restore, step = ?next.step, "the restore continues");
        }
        let mut book = self.book();
        book.error = book.unstarted.clone();
        book.hands.stopped |= action == Action::Stop;
        book.hands.started |= action == Action::Start;
        if next.step == JournalStep::Returned && !next.touched {
            book.after.etcd = EtcdAfter::Untouched;
        }
        let ended = next.has_ended();
        book.journal = Some(next);
        drop(book);
        if ended {
            self.deps.attempts.hold(false);
        }
        Pause::None
    }

    /// Checks etcd on the new folder.
    async fn watch(&self, journal: &Journal) -> Pause {
        let revision = self.book().hash_revision;
        let seen = match self.watcher.look(&journal.folders, revision).await {
            Ok(seen) => seen,
            Err(reason) => return self.fail(journal, Action::Watch, reason),
        };
        let mut book = self.book();
        if book.journal.as_ref() == Some(journal) {
            book.check = Some(seen);
        }
        Pause::For(CHECK_PAUSE)
    }

    /// Observes the old etcd until it answers, has ended, or its time is over. Going back does not depend on the
    /// result, which is only reported.
    async fn settle(&self, journal: &Journal) -> Pause {
        let Some(after) = self.watcher.settle(&journal.folders).await else { return Pause::For(CHECK_PAUSE) };
        if after.etcd != EtcdAfter::Serves {
            warn!(restore = %journal.restore, etcd = ?after.etcd, text = after.text, "the old etcd is not serving");
        }
        let mut book = self.book();
        if book.journal.as_ref() == Some(journal) {
            if after.etcd == EtcdAfter::Down {
                book.unstarted = format!("the old data is back, but etcd is not running: {}", after.text);
            }
            book.after = after;
        }
        Pause::None
    }

    /// Records which folders are left.
    async fn note_left(&self, journal: &Journal) {
        let folders = journal.folders.clone();
        let left = blocking(move || folders.left()).await;
        let left = left.unwrap_or_else(|cause| {
            error!(restore = %journal.restore, %cause, "cannot list what is left next to the data directory");
            Vec::new()
        });
        self.book().left = Some(left.iter().map(|path| path.display().to_string()).collect());
    }

    fn fail(&self, journal: &Journal, action: Action, error: String) -> Pause {
        if let Some(told) = self.told.note(&journal.restore.to_string(), &error) {
            let lasting = told.lasting;
            error!(restore = %journal.restore, ?action, error, lasting, "the restore cannot continue");
        }
        let mut book = self.book();
        if book.journal.as_ref() != Some(journal) {
            return Pause::None;
        }
        if action == Action::Start && journal.step == JournalStep::Returning {
            book.failed_starts += 1;
            if book.failed_starts >= START_TRIES {
                book.hands.started = true;
                book.after = After { etcd: EtcdAfter::Down, text: error.clone() };
                book.unstarted = format!("the old data is back, but etcd does not start: {error}");
                book.error = book.unstarted.clone();
                return Pause::None;
            }
        }
        book.error = error;
        match journal.step {
            JournalStep::Returning => Pause::For(RETURN_PAUSE),
            _ => Pause::UntilChanged,
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What follows an action.
enum Pause {
    None,
    For(Duration),
    UntilChanged,
}

#[cfg(test)]
#[path = "service_tests.rs"]
mod tests;
