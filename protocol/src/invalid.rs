//! Why a resource is not taken.

use std::time::Duration;

use crate::duration;
use crate::names::NameError;

/// What stands in place of a secret wherever a resource is shown; applied back, it keeps what was stored.
pub const HIDDEN: &str = "<hidden>";

/// Why a resource is not taken. The texts are part of what people see.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    #[error("bucket must be specified")]
    NoBucket,
    #[error("access key and secret key must be specified together")]
    HalfAKey,
    #[error("session token needs an access key and a secret key")]
    TokenAlone,
    #[error("{0} is {HIDDEN}, but no value is stored that could be kept: give the full value")]
    NothingHidden(&'static str),
    #[error("endpoint {0:?} must begin with http:// or https://")]
    Endpoint(String),
    #[error("backup time must be specified")]
    NoBackupTime,
    #[error("backup time must not be more than 1 minute in the past")]
    Past,
    #[error("backup time must not be more than 1 minute in the future")]
    Future,
    #[error("nanos must be 0")]
    Nanos,
    #[error("backup interval must be at least {}, got {}", duration::format(*.min), duration::format(*.got))]
    IntervalTooShort { min: Duration, got: Duration },
    #[error("backup interval must be at most {}, got {}", duration::format(*.max), duration::format(*.got))]
    IntervalTooLong { max: Duration, got: Duration },
    #[error("interval nanos must be below 1000000000, got {0}")]
    IntervalNanos(u32),
    #[error("automatic backups are enabled without an interval")]
    NoInterval,
    #[error(transparent)]
    Name(#[from] NameError),
}
