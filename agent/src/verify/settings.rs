//! `[verify]`: how backups are verified on this machine.

use std::path::PathBuf;
use std::time::Duration;

use backstay_daemon::settings;
use serde::{Deserialize, Serialize};

/// `[verify]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct VerifySettings {
    /// The etcd program that serves a backup temporarily; by default the first `etcd` on the `PATH`.
    pub etcd: Option<PathBuf>,
    /// The folder below which it is restored temporarily, in a folder that is created and removed; by default
    /// `state_dir`.
    pub scratch: Option<PathBuf>,
    /// How long that etcd may take until it serves.
    #[serde(with = "settings::duration")]
    pub start_timeout: Duration,
}

impl Default for VerifySettings {
    fn default() -> Self {
        Self { etcd: None, scratch: None, start_timeout: Duration::from_secs(120) }
    }
}
