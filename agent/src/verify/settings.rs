//! `[verify]`: how backups are verified on this machine.

use std::path::PathBuf;
use std::time::Duration;

use backstay_daemon::settings;
use serde::{Deserialize, Serialize};

/// `[verify]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct VerifySettings {
    /// The etcd that serves a backup for a moment; by default the one that is found on the `PATH`.
    pub etcd: Option<PathBuf>,
    /// Below this it is restored for that moment, in a folder that is made and removed; by default in `state_dir`.
    pub scratch: Option<PathBuf>,
    /// How long that etcd may take to serve.
    #[serde(with = "settings::duration")]
    pub start_timeout: Duration,
}

impl Default for VerifySettings {
    fn default() -> Self {
        Self { etcd: None, scratch: None, start_timeout: Duration::from_secs(120) }
    }
}
