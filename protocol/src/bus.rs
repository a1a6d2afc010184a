//! The protobuf messages between agents and coordinator, as generated from `proto/`, and how they are read: one
//! function checks the version of every message. What a field means is explained in `proto/backstay/v1/bus.proto`.

use std::time::Duration;

use prost::Message;

use crate::limits;

pub use generated::*;

#[allow(clippy::large_enum_variant, reason = "an answer is read and gone: nobody keeps many of them")]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/backstay.v1.rs"));
}

/// Why bytes from the bus were not accepted as a message.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DecodeError {
    /// These are not the bytes of such a message.
    #[error("not a {message} message: {cause}")]
    Malformed {
        /// The name of the message that was expected.
        message: &'static str,
        /// The decoder's own words.
        cause: String,
    },
    /// It was sent by a newer or an older release.
    #[error("{message} has version {got}, but this version supports {known}: update the older side", known = crate::VERSION)]
    UnknownVersion {
        /// The name of the message.
        message: &'static str,
        /// The version that it has.
        got: u32,
    },
}

/// A message that starts with a version.
pub trait Versioned: Message + Default {
    /// Its name in the `.proto` file.
    const NAME: &'static str;
    /// The version that its sender wrote into it.
    fn version(&self) -> u32;
}

/// Reads a message. Fields that this build does not know are ignored.
///
/// # Errors
/// [`DecodeError::Malformed`] if the bytes are not such a message; [`DecodeError::UnknownVersion`] if its version is not
/// [`VERSION`](crate::VERSION).
///
/// # Examples
/// ```
/// use backstay_protocol::bus::{self, Beat, DecodeError};
/// use prost::Message;
///
/// let sent = Beat { version: 1, cluster: "talos-default".into(), ..Beat::default() };
/// let beat: Beat = bus::decode(&sent.encode_to_vec())?;
/// assert_eq!(beat.cluster, "talos-default");
///
/// let newer = Beat { version: 2, ..sent };
/// let refused = bus::decode::<Beat>(&newer.encode_to_vec());
/// assert_eq!(refused, Err(DecodeError::UnknownVersion { message: "Beat", got: 2 }));
/// # Ok::<(), DecodeError>(())
/// ```
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

/// How long a coordinator that has just begun to lead waits before it takes an agent that is silent for absent: agents
/// send a beat every 5 s, so this is two beats and a second.
pub const FIRST_BEATS: Duration = Duration::from_secs(11);

/// A text for people, cut to the [`limits::TEXT`] bytes that a message may have of it.
pub fn clipped(text: &str) -> String {
    limits::cut(text, limits::TEXT)
}

impl Report {
    /// Attempt and state: JetStream and the coordinator take two reports with the same id for one.
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
