//! What an agent's reply means to a coordinator with a given epoch. Pure.

use backstay_protocol::bus::{RefusalCode, Refused};

/// The reply of an agent that was asked how far it is.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply<S> {
    State(Box<S>),
    Refused(String),
    /// It did not answer, or is busy.
    Silent(String),
    /// The agent has seen this epoch, which is newer than ours.
    Stale(u64),
}

impl<S> Reply<S> {
    /// What an answer means: it is a state, a refusal or neither.
    pub fn read(epoch: u64, answer: Result<Option<Result<S, Refused>>, String>) -> Self {
        match answer {
            Ok(Some(Ok(state))) => Self::State(Box::new(state)),
            Ok(Some(Err(refused))) if refused.newest_epoch > epoch => Self::Stale(refused.newest_epoch),
            // What keeps it busy ends by itself.
            Ok(Some(Err(refused))) if refused.code() == RefusalCode::Busy => Self::Silent(refused.text),
            Ok(Some(Err(refused))) => Self::Refused(refused.text),
            Ok(None) => Self::Silent("its answer neither accepts nor refuses".into()),
            Err(error) => Self::Silent(error),
        }
    }
}
