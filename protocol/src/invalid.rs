//! Why a resource is refused.

use std::time::Duration;

use crate::duration;
use crate::names::NameError;

/// Stands in place of a secret wherever a resource is shown. If it is applied, the stored secret is kept.
pub const HIDDEN: &str = "<hidden>";

/// Why a resource is refused. People see these texts, and other programs may compare them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// The S3 configuration has no bucket.
    #[error("bucket must be specified")]
    NoBucket,
    /// Of access key and secret key, one is missing.
    #[error("access key and secret key must be specified together")]
    HalfAKey,
    /// A session token without the keys that it belongs to.
    #[error("session token needs an access key and a secret key")]
    TokenAlone,
    /// A secret is [`HIDDEN`], and none is stored. Holds the name of the field.
    #[error("{0} is {HIDDEN}, but no value is stored that could be kept: give the full value")]
    NothingHidden(&'static str),
    /// The endpoint has no scheme, or another one. Holds the endpoint.
    #[error("endpoint {0:?} must begin with http:// or https://")]
    Endpoint(String),
    /// A manual backup without a time.
    #[error("backup time must be specified")]
    NoBackupTime,
    /// The time of a manual backup is too old.
    #[error("backup time must not be more than 1 minute in the past")]
    Past,
    /// The time of a manual backup is too far ahead.
    #[error("backup time must not be more than 1 minute in the future")]
    Future,
    /// The time of a manual backup is not a whole second.
    #[error("nanos must be 0")]
    Nanos,
    /// Below the bounds of the coordinator.
    #[error("backup interval must be at least {}, got {}", duration::format(*.min), duration::format(*.got))]
    IntervalTooShort {
        /// The shortest interval that is allowed.
        min: Duration,
        /// The interval that was given.
        got: Duration,
    },
    /// Above the bounds of the coordinator.
    #[error("backup interval must be at most {}, got {}", duration::format(*.max), duration::format(*.got))]
    IntervalTooLong {
        /// The longest interval that is allowed.
        max: Duration,
        /// The interval that was given.
        got: Duration,
    },
    /// The nanoseconds of an interval are a second or more. Holds how many.
    #[error("interval nanos must be below 1000000000, got {0}")]
    IntervalNanos(u32),
    /// Automatic backups are switched on, but how often is missing.
    #[error("automatic backups are enabled without an interval")]
    NoInterval,
    /// A name in it is invalid.
    #[error(transparent)]
    Name(#[from] NameError),
}
