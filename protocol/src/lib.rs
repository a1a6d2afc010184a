//! What Backstay says over NATS: ids, subjects, messages, resources, validation, codecs.
//!
//! There is no IO and no clock here: everything is a value or a function of values. So the coordinator, the agents,
//! the command line and the tests understand every word in the same way.
//!
//! A program that wants a backup now sends one request:
//!
//! ```
//! use backstay_protocol::api::{Answer, ApplyRequest, ApplyResponse};
//! use backstay_protocol::codec::ContentType;
//! use backstay_protocol::resource::Resource;
//! use backstay_protocol::spec::ManualBackupSpec;
//! use backstay_protocol::subject::{Subject, Verb};
//! use backstay_protocol::{Timestamp, types};
//!
//! let spec = ManualBackupSpec { backupat: Some(Timestamp::from_seconds(1_701_184_522)) };
//! let request = ApplyRequest { resource: Resource::of("talos-default", &spec), dry_run: false };
//! let body = ContentType::Json.encode(&request)?;
//! let subject = Subject::Api { verb: Verb::Apply, plural: types::ETCD_MANUAL_BACKUPS.plural() };
//! assert_eq!(subject.to_string(), "backstay.v1.api.apply.etcdmanualbackups");
//!
//! // The body goes to that subject with a reply subject, and this comes back there:
//! let reply = br#"{"error":{"code":"not_found","text":"resource X doesn't exist"}}"#;
//! let answer: Answer<ApplyResponse> = ContentType::Json.decode(reply)?;
//! assert_eq!(answer.into_result().unwrap_err().code.number(), 404);
//! # Ok::<(), backstay_protocol::codec::CodecError>(())
//! ```

#![deny(clippy::disallowed_macros)]
#![warn(missing_docs, clippy::missing_errors_doc)]

pub mod api;
pub mod backstay_types;
pub mod bus;
pub mod certificates;
pub mod codec;
pub mod duration;
pub mod fields;
pub mod hex;
mod invalid;
pub mod limits;
pub mod machines;
pub mod names;
pub mod resource;
pub mod selector;
pub mod spec;
pub mod subject;
pub mod time;
pub mod types;
pub mod validate;

pub use names::{AttemptId, ClusterName, ClusterUuid, MachineId, NameError, RestoreId, SlotId, SnapshotName, VerifyId};
pub use time::{Clock, Timestamp};

/// The version of the messages between agents and coordinator that this build speaks. It rises when the meaning of a
/// message changes; a new optional field does not change it.
pub const VERSION: u32 = 1;
