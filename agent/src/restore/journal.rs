//! The journal of a restore, and what is to be done next according to it. Pure, except [`Journal::load`] and
//! [`Journal::save`].

use std::path::Path;

use backstay_protocol::RestoreId;
use backstay_protocol::bus::{RestoreGoal, RestoreStep};
use backstay_protocol::hex::from_hex;
use serde::{Deserialize, Serialize};

pub use super::folders::ExistingFolders;

use super::folders::Folders;
use crate::state::{StateError, read_optional, write_atomic};

const VERSION: u32 = 1;
const UNEXPECTED: &str = "something unexpected is in the place of the data directory";

/// Where the restore is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Goal {
    Prepare,
    Switch,
    PutBack,
    Keep,
}

impl Goal {
    pub fn from_wire(goal: RestoreGoal) -> Option<Self> {
        match goal {
            RestoreGoal::Unspecified => None,
            RestoreGoal::Prepare => Some(Self::Prepare),
            RestoreGoal::Switch => Some(Self::Switch),
            RestoreGoal::PutBack => Some(Self::PutBack),
            RestoreGoal::Keep => Some(Self::Keep),
        }
    }
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JournalStep {
    Preparing,
    Ready,
    Stopping,
    Moving,
    Starting,
    Switched,
    Returning,
    Returned,
    Kept,
}

impl JournalStep {
    pub fn to_wire(self) -> RestoreStep {
        match self {
            Self::Preparing => RestoreStep::Preparing,
            Self::Ready => RestoreStep::Ready,
            Self::Stopping => RestoreStep::Stopping,
            Self::Moving => RestoreStep::Moving,
            Self::Starting => RestoreStep::Starting,
            Self::Switched => RestoreStep::Switched,
            Self::Returning => RestoreStep::Returning,
            Self::Returned => RestoreStep::Returned,
            Self::Kept => RestoreStep::Kept,
        }
    }
}

/// One restore on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    pub version: u32,
    pub restore: RestoreId,
    pub goal: Goal,
    pub step: JournalStep,
    pub folders: Folders,
    /// Whether there was a data folder at all: a machine that lost its disk has none to set aside.
    pub had_data: bool,
    /// Whether etcd was told to stop, or was about to be.
    pub touched: bool,
    /// Whether the old data was put back after etcd had been started on the prepared data, or was about to be: clients
    /// may have written to it, and may have been told that their data is safe.
    #[serde(default)]
    pub ran: bool,
    /// sha256 of the prepared database, in hexadecimal.
    pub digest: String,
    /// etcd's id of the cluster that was prepared.
    pub new_cluster_id: u64,
}

/// What this process has done itself. A new process begins with neither, and does it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hands {
    pub stopped: bool,
    pub started: bool,
}

/// What is to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Prepare the fresh folder, from the beginning.
    Build,
    /// Stop etcd and wait until it has closed its database.
    Stop,
    /// live → aside.
    SetAside,
    /// fresh → live.
    Place,
    Start,
    /// Query etcd's status.
    Watch,
    /// live → fresh.
    Unplace,
    /// Move away something in the place of live that nobody put there.
    MoveStranger,
    /// aside → live.
    Return,
    /// Remove what was prepared.
    Discard,
    /// Only the journal changes.
    Note(JournalStep),
    /// Nothing, until another goal comes.
    Rest,
    /// The folders are in a state that no step leaves behind.
    Confused(&'static str),
}

/// Why a goal is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GoalError {
    #[error("this machine cannot switch: it has not prepared the restore")]
    NotReady,
    #[error("this machine cannot keep the new data: it has not switched to it")]
    NotSwitched,
    #[error("this machine went back to its old data")]
    PutBack,
    #[error("this restore has ended: the new data was kept")]
    Kept,
}

impl Journal {
    pub fn new(restore: RestoreId, folders: Folders, had_data: bool) -> Self {
        Self {
            version: VERSION,
            restore,
            goal: Goal::Prepare,
            step: JournalStep::Preparing,
            folders,
            had_data,
            touched: false,
            ran: false,
            digest: String::new(),
            new_cluster_id: 0,
        }
    }

    /// The restore that was under way or ended last; `None` if there is none.
    ///
    /// # Errors
    /// There is one that cannot be read: continuing without it could damage live data.
    pub fn load(path: &Path) -> Result<Option<Self>, StateError> {
        let Some(bytes) = read_optional(path)? else { return Ok(None) };
        let unreadable = |cause: String| StateError {
            action: "read the restore's journal",
            path: path.display().to_string(),
            cause,
        };
        let journal: Self = serde_json::from_slice(&bytes).map_err(|e| unreadable(e.to_string()))?;
        if journal.version != VERSION {
            return Err(unreadable(format!("unknown version {}: update the agent", journal.version)));
        }
        from_hex(&journal.digest).map_err(|e| unreadable(format!("its digest is damaged: {e}")))?;
        Ok(Some(journal))
    }

    /// The sha256 of the prepared database; empty before it is prepared.
    pub fn digest_bytes(&self) -> Vec<u8> {
        from_hex(&self.digest).expect("it was written as hexadecimal, and checked when it was loaded")
    }

    /// Returns when the journal is on disk.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), StateError> {
        let mut json = serde_json::to_vec_pretty(self).expect("a journal is plain data");
        json.push(b'\n');
        write_atomic(path, &json)
    }

    /// Nothing more is to be done for this restore.
    pub fn has_ended(&self) -> bool {
        matches!(self.step, JournalStep::Returned | JournalStep::Kept)
    }

    /// Accepts a goal; returns whether it is a new one. One that comes before the present goal changes nothing.
    ///
    /// # Errors
    /// The goal cannot be reached from here.
    pub fn take(&mut self, goal: Goal) -> Result<bool, GoalError> {
        let step = match (self.goal, goal) {
            (before, now) if before == now => return Ok(false),
            (_, Goal::Prepare) => return Ok(false),
            (Goal::Prepare, Goal::Switch) if self.step == JournalStep::Ready => JournalStep::Stopping,
            (Goal::Prepare, Goal::Switch) => return Err(GoalError::NotReady),
            (Goal::Prepare, Goal::Keep) => return Err(GoalError::NotSwitched),
            (Goal::Switch, Goal::Keep) if self.step == JournalStep::Switched => JournalStep::Kept,
            (Goal::Switch, Goal::Keep) => return Err(GoalError::NotSwitched),
            (Goal::Prepare | Goal::Switch, Goal::PutBack) => JournalStep::Returning,
            (Goal::Keep, Goal::Switch) => return Ok(false),
            (Goal::Keep, _) => return Err(GoalError::Kept),
            (Goal::PutBack, _) => return Err(GoalError::PutBack),
            (Goal::Switch, Goal::Switch) => return Ok(false),
        };
        self.touched |= goal == Goal::Switch;
        self.ran |= goal == Goal::PutBack && matches!(self.step, JournalStep::Starting | JournalStep::Switched);
        (self.goal, self.step) = (goal, step);
        Ok(true)
    }

    /// What is to be done next, given the folders.
    pub fn next(&self, seen: ExistingFolders, hands: Hands) -> Action {
        match self.step {
            JournalStep::Preparing => Action::Build,
            JournalStep::Ready | JournalStep::Returned => Action::Rest,
            // Before etcd is stopped: nobody would start it again.
            JournalStep::Stopping if seen.live && !self.had_data => Action::Confused(UNEXPECTED),
            JournalStep::Stopping => Action::Stop,
            JournalStep::Moving => self.next_move(seen, hands),
            JournalStep::Starting => Action::Start,
            JournalStep::Switched => Action::Watch,
            JournalStep::Returning => self.next_return(seen, hands),
            JournalStep::Kept if seen.root || seen.rest => Action::Discard,
            JournalStep::Kept => Action::Rest,
        }
    }

    fn next_move(&self, seen: ExistingFolders, hands: Hands) -> Action {
        match (seen.live, seen.fresh, seen.aside) {
            // Moved already; etcd may run on it, where a process died between starting it and noting that.
            (true, false, aside) if aside == self.had_data => Action::Note(JournalStep::Starting),
            _ if !hands.stopped => Action::Stop,
            (true, true, false) if self.had_data => Action::SetAside,
            (false, true, aside) if aside == self.had_data => Action::Place,
            (true, true, _) => Action::Confused(UNEXPECTED),
            _ => Action::Confused("the prepared directory or the old one has disappeared"),
        }
    }

    fn next_return(&self, seen: ExistingFolders, hands: Hands) -> Action {
        let aside = seen.aside && self.had_data;
        // What was prepared and is no more where it was prepared. Where its folder is gone, too, it was removed.
        let placed = seen.live && seen.root && !seen.fresh && (aside || !self.had_data);
        match (seen.live, aside) {
            // Before the switch nothing live was touched, whatever stands there.
            _ if !self.touched => self.clear_up(seen),
            _ if (aside || placed) && !hands.stopped => Action::Stop,
            _ if placed => Action::Unplace,
            (true, true) => Action::MoveStranger,
            (false, true) => Action::Return,
            (false, false) if self.had_data => Action::Confused("the old data directory has disappeared"),
            _ if self.had_data && !hands.started => Action::Start,
            _ => self.clear_up(seen),
        }
    }

    fn clear_up(&self, seen: ExistingFolders) -> Action {
        match seen.root || seen.rest {
            true => Action::Discard,
            false => Action::Note(JournalStep::Returned),
        }
    }

    /// The step after a completed action, if the journal must record it.
    pub fn after(&self, action: Action) -> Option<JournalStep> {
        match (action, self.step) {
            (Action::Build, JournalStep::Preparing) => Some(JournalStep::Ready),
            (Action::Stop, JournalStep::Stopping) => Some(JournalStep::Moving),
            (Action::Start, JournalStep::Starting) => Some(JournalStep::Switched),
            (Action::Note(step), _) => Some(step),
            _ => None,
        }
    }
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
