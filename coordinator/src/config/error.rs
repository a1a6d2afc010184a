//! Settings that cannot be used.

use std::path::PathBuf;
use std::time::Duration;

use backstay_archive::seal;
use backstay_daemon::settings::SettingsError;
use backstay_protocol::duration;

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error("[storage] has both backend = \"s3\" and a path: a path can only be used with backend = \"local\"")]
    BothBackends,
    #[error(
        "[storage] has backend = \"local\" together with S3 settings (ca, prefix, storage_class, \
         server_side_encryption, kms_key_id, addressing or checksum): remove them"
    )]
    NotS3,
    #[error("[storage] backend = \"local\" needs a path")]
    NoPath,
    #[error("[storage] path {0} must be absolute: the agents and the coordinator share it")]
    RelativePath(PathBuf),
    #[error(
        "there is no recovery recipient, so if the coordinator is lost, every backup is lost. Add an age recipient to \
         [encryption] recovery_recipients (`backstay-coordinator init` makes one), or set mode = \"off\" to store \
         backups without encryption"
    )]
    NoRecovery,
    #[error("[encryption] has both mode = \"off\" and recovery_recipients: choose one")]
    OffWithRecipients,
    #[error("[encryption] recovery_recipients: {0}")]
    Recipient(#[from] seal::SealError),
    #[error("[storage] {text}")]
    Objects { key: &'static str, text: String },
    #[error("[{}] {text}", key.split('.').next().unwrap_or_default())]
    Range { key: &'static str, text: String },
    #[error("[lease] ttl must be at least 1s, got {}", duration::format(*.0))]
    Lease(Duration),
    /// An error with the place of the setting.
    #[error("{place}{error}")]
    At { place: String, error: Box<ConfigError> },
}

impl ConfigError {
    /// The key of the setting to change; `None` if it is not one setting.
    pub(super) fn key(&self) -> Option<&'static str> {
        match self {
            Self::Settings(_) | Self::At { .. } => None,
            Self::NoPath | Self::NotS3 => Some("storage.backend"),
            Self::BothBackends | Self::RelativePath(_) => Some("storage.path"),
            Self::NoRecovery | Self::Recipient(_) => Some("encryption.recovery_recipients"),
            Self::OffWithRecipients => Some("encryption.mode"),
            Self::Objects { key, .. } | Self::Range { key, .. } => Some(key),
            Self::Lease(_) => Some("lease.ttl"),
        }
    }
}
