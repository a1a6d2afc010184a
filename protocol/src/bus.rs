//! The protobuf messages between agents and coordinator, as generated from `proto/`, and how they are
//! read: one place checks the version of every message.

use std::time::Duration;

use prost::Message;

use crate::limits;

pub use generated::*;

#[allow(clippy::large_enum_variant, reason = "an answer is read and gone: nobody keeps many of them")]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/backstay.v1.rs"));
}

/// Why bytes from the bus were not taken for a message.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DecodeError {
    #[error("not a {message} message: {cause}")]
    Malformed { message: &'static str, cause: String },
    #[error("{message} has version {got}, but this version supports {known}: update the older side", known = crate::VERSION)]
    UnknownVersion { message: &'static str, got: u32 },
}

/// A message that opens with a version.
pub trait Versioned: Message + Default {
    const NAME: &'static str;
    fn version(&self) -> u32;
}

/// Reads a message, refusing one of a version that this build does not know.
pub fn decode<M: Versioned>(bytes: &[u8]) -> Result<M, DecodeError> {
    let message = M::decode(bytes).map_err(|e| DecodeError::Malformed { message: M::NAME, cause: e.to_string() })?;
    match message.version() {
        crate::VERSION => Ok(message),
        got => Err(DecodeError::UnknownVersion { message: M::NAME, got }),
    }
}

macro_rules! versioned {
    ($($message:ident),* $(,)?) => {$(
        impl Versioned for $message {
            const NAME: &'static str = stringify!($message);
            fn version(&self) -> u32 {
                self.version
            }
        }
    )*};
}

versioned!(
    Beat,
    StartBackup,
    StartReply,
    CancelBackup,
    CancelReply,
    Report,
    Progress,
    RestoreCommand,
    RestoreReply,
    VerifyCommand,
    VerifyReply
);

/// A coordinator that just began to lead has heard every agent after this time: they beat every 5 s.
pub const FIRST_BEATS: Duration = Duration::from_secs(11);

/// A text for people, as long as a message takes it.
pub fn clipped(text: &str) -> String {
    limits::cut(text, limits::TEXT)
}

impl Report {
    /// What makes a report the same report when it arrives twice: the attempt and the state.
    pub fn dedup_id(&self) -> String {
        let state = match self.state {
            Some(report::State::Started(_)) => "started",
            Some(report::State::Finished(_)) => "finished",
            Some(report::State::Failed(_)) => "failed",
            None => "unknown",
        };
        format!("{}.{state}", self.attempt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_version_is_refused_by_name() {
        let beat = Beat { version: 9, ..Beat::default() };
        let error = decode::<Beat>(&beat.encode_to_vec()).expect_err("version 9 is unknown");
        assert_eq!(error.to_string(), "Beat has version 9, but this version supports 1: update the older side");
    }

    #[test]
    fn a_field_from_a_later_version_is_ignored() {
        let mut bytes = Progress { version: 1, attempt: "a".into(), ..Progress::default() }.encode_to_vec();
        bytes.extend_from_slice(&[0xFA, 0x06, 0x01, 0x78]); // field 111, one byte of text
        assert_eq!(decode::<Progress>(&bytes).expect("known fields stand").attempt, "a");
    }
}
