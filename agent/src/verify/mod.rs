//! Proving a backup at rest: fetched, opened, inspected, and where asked, restored into a scratch folder and served by an
//! etcd of its own, whose answers are compared.
//!
//! Nothing is kept over a restart: the coordinator asks again and again, and an agent that does not know what it is asked
//! for begins.
//!
//! - [`boot`]: an etcd on the scratch folder; - [`judge`]: what was seen and what it served, compared; - [`desk`]: commands
//!   in, state out.

pub mod boot;
pub mod desk;
pub mod judge;

use std::path::PathBuf;
use std::time::Duration;

use backstay_daemon::settings;
use serde::{Deserialize, Serialize};

pub use desk::Verifications;

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
