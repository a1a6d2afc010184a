//! `[restore]`: how this machine's etcd is stopped and started, and where its data is.

use std::path::PathBuf;
use std::time::Duration;

use backstay_daemon::settings;
use serde::{Deserialize, Serialize};

/// How etcd is controlled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ControlKind {
    Systemd,
    StaticPod,
    Commands,
}

impl ControlKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Systemd => "systemd",
            Self::StaticPod => "static-pod",
            Self::Commands => "commands",
        }
    }
}

/// `[restore]`. Without `control` this agent cannot restore.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RestoreSettings {
    pub control: Option<ControlKind>,
    /// etcd's data folder, as in etcd's own settings; required.
    pub data_dir: Option<PathBuf>,
    /// systemd: the unit.
    pub unit: String,
    /// Static pod: etcd's manifest in the kubelet's folder.
    pub manifest: PathBuf,
    /// Static pod: where the manifest waits while etcd is stopped; outside the kubelet's folder, on the same file
    /// system. By default above that folder.
    pub manifest_aside: Option<PathBuf>,
    /// Commands: program and arguments. Each must also succeed if etcd is stopped, or started, already, and the second
    /// must leave etcd running when it ends.
    pub stop: Vec<String>,
    pub start: Vec<String>,
    /// Where etcd logs to, so that its last lines can be reported if it ends immediately: a file, or for a static pod
    /// the folder with a container's logs. By default the journal, or the logs of the kubelet; with commands there is
    /// no default.
    pub log: Option<PathBuf>,
    /// How long stopping may take, until etcd has closed its database.
    #[serde(with = "settings::duration")]
    pub stop_timeout: Duration,
    /// How long the start command may take.
    #[serde(with = "settings::duration")]
    pub start_timeout: Duration,
}

impl Default for RestoreSettings {
    fn default() -> Self {
        Self {
            control: None,
            data_dir: None,
            unit: "etcd.service".into(),
            manifest: "/etc/kubernetes/manifests/etcd.yaml".into(),
            manifest_aside: None,
            stop: Vec::new(),
            start: Vec::new(),
            log: None,
            stop_timeout: Duration::from_secs(120),
            start_timeout: Duration::from_secs(120),
        }
    }
}

impl RestoreSettings {
    /// Refuses settings that contradict each other when the agent starts, not in the middle of a restore.
    ///
    /// # Errors
    /// Which setting is wrong, in words.
    pub fn check(&self) -> Result<(), String> {
        let Some(control) = self.control else { return Ok(()) };
        match &self.data_dir {
            None => return Err("data_dir must be set to etcd's data directory".into()),
            Some(path) if !path.is_absolute() => return Err(format!("data_dir must be absolute, got {path:?}")),
            Some(_) => {}
        }
        if let Some(log) = self.log.as_ref().filter(|log| !log.is_absolute()) {
            return Err(format!("log must be absolute, got {log:?}"));
        }
        match control {
            ControlKind::Systemd if self.unit.is_empty() => Err("unit must be set for control = \"systemd\"".into()),
            ControlKind::StaticPod if !self.manifest.is_absolute() => {
                Err("manifest must be an absolute path for control = \"static-pod\"".into())
            }
            ControlKind::Commands if self.stop.is_empty() || self.start.is_empty() => {
                Err("stop and start must be set for control = \"commands\"".into())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<(), String> {
        toml::from_str::<RestoreSettings>(text).map_err(|e| e.to_string())?.check()
    }

    #[test]
    fn what_is_missing_is_said() {
        assert_eq!(check(""), Ok(()));
        assert_eq!(check("control = 'systemd'\ndata_dir = '/var/lib/etcd'"), Ok(()));
        assert_eq!(check("control = 'static-pod'\ndata_dir = '/var/lib/etcd'"), Ok(()));
        for (text, part) in [
            ("control = 'systemd'", "data_dir"),
            ("control = 'systemd'\ndata_dir = 'etcd'", "absolute"),
            ("control = 'systemd'\ndata_dir = '/d'\nlog = 'etcd.log'", "log must be absolute"),
            ("control = 'commands'\ndata_dir = '/d'\nstop = ['x']", "stop and start"),
            ("control = 'docker'", "docker"),
            ("stop_timout = '1s'", "stop_timout"),
        ] {
            assert!(check(text).is_err_and(|e| e.contains(part)), "{text}");
        }
    }
}
