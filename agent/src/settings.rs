//! The settings of `backstay-agent run`.

use std::path::PathBuf;
use std::time::Duration;

use backstay_daemon::http::HttpSettings;
use backstay_daemon::logs::LogFormat;
use backstay_daemon::nats::NatsSettings;
use backstay_daemon::settings::{self, Override, SettingsError};
use backstay_protocol::{ClusterName, MachineId};
use serde::{Deserialize, Serialize};

use crate::etcd::EtcdSettings;
use crate::proof::settings::InspectionSettings;
use crate::restore::RestoreSettings;
use crate::verify::VerifySettings;

/// The variable in which systemd passes the folder for a service's state.
pub const STATE_VARIABLE: &str = "STATE_DIRECTORY";

const STATE_DIR: &str = "/var/lib/backstay-agent";
/// The default port for health and metrics.
const HTTP_PORT: u16 = 9478;
const BEAT_INTERVAL_MIN: Duration = Duration::from_millis(100);
const BEAT_INTERVAL_MAX: Duration = Duration::from_secs(5);

/// All settings of an agent.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The cluster that this machine's etcd belongs to. Required.
    pub cluster: Option<ClusterName>,
    /// The machine's UUID; by default it is determined from the machine.
    pub machine: Option<MachineId>,
    /// The folder for what the agent keeps over restarts; each agent needs its own.
    pub state_dir: PathBuf,
    /// 100 ms to 5 s.
    #[serde(with = "settings::duration")]
    pub beat_interval: Duration,
    pub nats: NatsSettings,
    pub etcd: EtcdSettings,
    pub inspection: InspectionSettings,
    pub s3: S3Trust,
    /// How etcd is stopped and started, if this machine may be restored.
    pub restore: RestoreSettings,
    /// How backups are verified on this machine.
    pub verify: VerifySettings,
    /// Health, readiness and metrics.
    pub http: HttpSettings,
    pub log: LogFormat,
}

/// `[s3]`: the agent's own settings for S3; the rest comes with each command.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct S3Trust {
    /// A CA to trust for S3 endpoints.
    pub ca: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cluster: None,
            machine: None,
            state_dir: STATE_DIR.into(),
            beat_interval: Duration::from_secs(5),
            nats: NatsSettings::default(),
            etcd: EtcdSettings::default(),
            inspection: InspectionSettings::default(),
            s3: S3Trust::default(),
            restore: RestoreSettings::default(),
            verify: VerifySettings::default(),
            http: HttpSettings::on_loopback(HTTP_PORT),
            log: LogFormat::default(),
        }
    }
}

impl Settings {
    /// From `file`, then `variables`, then `flags`. systemd's `STATE_DIRECTORY` is the default of `state_dir`.
    ///
    /// # Errors
    /// The file cannot be read, a layer does not fit, or the settings contradict each other.
    pub fn load(
        file: Option<&std::path::Path>,
        variables: impl IntoIterator<Item = (String, String)>,
        flags: Vec<Override>,
    ) -> Result<Self, SettingsError> {
        let variables: Vec<_> = variables.into_iter().collect();
        let state = variables.iter().find(|(name, _)| name == STATE_VARIABLE).map(|(_, value)| value.clone());
        let mut overrides = settings::from_environment::<Self>(variables);
        overrides.extend(flags);
        let mut settings: Self = settings::load(file, &overrides)?;
        // systemd gives several folders with colons between; ours is the first.
        if let Some(first) = state.as_deref().and_then(|s| s.split(':').next()).filter(|s| !s.is_empty())
            && settings.state_dir.as_os_str() == STATE_DIR
        {
            settings.state_dir = first.into();
        }
        settings.check(|key| settings::place(file, &overrides, key))?;
        Ok(settings)
    }

    /// `place` says where a key was set.
    fn check(&self, place: impl Fn(&str) -> String) -> Result<(), SettingsError> {
        let bounds = BEAT_INTERVAL_MIN..=BEAT_INTERVAL_MAX;
        if !bounds.contains(&self.beat_interval) {
            let text = format!("beat_interval must be {BEAT_INTERVAL_MIN:?} to {BEAT_INTERVAL_MAX:?}");
            return Err(SettingsError::Nonsense { place: place("beat_interval"), text });
        }
        for (key, value) in [
            ("inspection.patience", self.inspection.patience),
            ("restore.stop_timeout", self.restore.stop_timeout),
            ("restore.start_timeout", self.restore.start_timeout),
            ("verify.start_timeout", self.verify.start_timeout),
        ] {
            if value.is_zero() {
                let (table, name) = key.split_once('.').unwrap_or_default();
                return Err(SettingsError::Nonsense {
                    place: place(key),
                    text: format!("[{table}] {name} must be above 0"),
                });
            }
        }
        if self.inspection.memory_limit == 0 {
            let text = "[inspection] memory_limit must be above 0; to use no memory, set enabled = false".into();
            return Err(SettingsError::Nonsense { place: place("inspection.memory_limit"), text });
        }
        if let Err(text) = self.restore.check() {
            return Err(SettingsError::Nonsense { place: place("restore.control"), text: format!("[restore] {text}") });
        }
        if self.state_dir.as_os_str().is_empty() {
            return Err(SettingsError::Nonsense {
                place: place("state_dir"),
                text: "state_dir must be a directory".into(),
            });
        }
        if let Some((key, text)) = self.etcd.contradiction() {
            return Err(SettingsError::Nonsense { place: place(key), text: format!("[etcd] {text}") });
        }
        self.nats.check(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, variables: &[(&str, &str)]) -> Result<Settings, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("agent.toml");
        std::fs::write(&file, text).expect("writable");
        let variables = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Settings::load(Some(&file), variables, vec![Override::new("nats.url", "nats://flag:1")])
            .map_err(|e| e.to_string())
    }

    #[test]
    fn the_documented_keys() {
        let text = r#"
            cluster = "prod"
            machine = "01234567-0123-4123-8123-0123456789ab"
            beat_interval = "2s"
            [nats]
            url = "nats://file:1"
            [etcd]
            endpoints = ["https://127.0.0.1:2379"]
            ca = "/etc/ca"
            cert = "/etc/cert"
            key = "/etc/key"
            user = "root"
        "#;
        let variables =
            [("BACKSTAY_ETCD__PASSWORD", "p"), ("STATE_DIRECTORY", "/run/x:/run/y"), ("BACKSTAY_LOG", "debug")];
        let settings = load(text, &variables).expect("valid");
        assert_eq!(settings.cluster.expect("given").as_str(), "prod");
        assert_eq!((settings.nats.url.as_str(), settings.etcd.password.as_str()), ("nats://flag:1", "p"));
        assert_eq!((settings.state_dir, settings.beat_interval), ("/run/x".into(), Duration::from_secs(2)));
        let settings = load("state_dir = '/srv/a'", &[("STATE_DIRECTORY", "/run/x")]).expect("valid");
        assert_eq!(settings.state_dir, PathBuf::from("/srv/a"), "what is said counts more than a default");
    }

    #[test]
    fn unknown_keys_and_wrong_values_are_errors() {
        assert!(load("clutser = 'x'", &[]).is_err_and(|e| e.contains("clutser")));
        assert!(load("[etcd]\nendpoint = 'x'", &[]).is_err_and(|e| e.contains("endpoint")));
        assert!(load("", &[("BACKSTAY_ETC__CA", "x")]).is_ok(), "a variable may be anybody's");
        assert!(load("", &[("BACKSTAY_BEAT_INTERVAL", "x")]).is_err_and(|e| e.contains("beat_interval")));
        assert!(load("cluster = 'a.b'", &[]).is_err_and(|e| e.contains("cluster name")));
        let error = load("cluster = 'c'\nbeat_interval = '0s'", &[]).expect_err("too short");
        assert!(error.contains("agent.toml: line 2: beat_interval must be"), "{error}");
        for (text, says) in [
            ("[etcd]\nuser = 'u'\ncert = 'c'", "line 3: [etcd] cert and key must"),
            ("[etcd]\n\nendpoints = ['ftp://h']", "line 3: [etcd] endpoints: \"ftp://h\" must be"),
            ("[etcd]\n\nendpoints = ['http://u:p@h:1']", "line 3: [etcd] an etcd URL cannot contain a user"),
            ("[etcd]\nuser = 'u'", "line 2: [etcd] user and password must"),
            ("[nats]\n\nkey = 'k'", "line 3: [nats] cert and key must"),
            ("state_dir = ''", "line 1: state_dir must be"),
            ("[verify]\nstart_timeout = '0s'", "line 2: [verify] start_timeout must be above 0"),
            ("[inspection]\nmemory_limit = 0", "line 2: [inspection] memory_limit must be above 0"),
            ("[nats]\npassword = 'p'", "line 2: [nats] a password can only be used with a user"),
        ] {
            let error = load(text, &[]).expect_err(says);
            assert!(error.contains(&format!("agent.toml: {says}")), "{error}");
        }
    }

    #[test]
    fn no_setting_looks_like_a_variable_of_a_service() {
        let keys = settings::keys::of::<Settings>();
        assert!(keys.contains(&vec!["etcd", "password_file"]) && keys.len() > 30, "{keys:?}");
        for (key, value) in keys.iter().flat_map(|key| ["tcp://h:1", "9479", "x"].map(|value| (key, value))) {
            let name = settings::variable(key);
            assert!(!settings::is_of_a_service(&name, value), "{name}");
        }
    }

    #[test]
    fn what_is_printed_can_be_used_again_and_holds_no_secret() {
        let text = "cluster = 'c'\n[etcd]\nuser = 'root'\npassword = 'hunter2'\nendpoints = ['http://h:1']";
        let variables =
            [("BACKSTAY_NATS__USER", "u"), ("BACKSTAY_NATS__PASSWORD", "hunter2"), ("BACKSTAY_HTTP__LISTEN", "")];
        let settings = load(text, &variables).expect("valid");
        let printed = settings::print(&settings).expect("plain data");
        assert!(!printed.contains("hunter2") && printed.contains("http://h:1"), "{printed}");
        let again = load(&printed, &[]).expect("its own words");
        assert_eq!((again.etcd.password.as_str(), again.nats.password.as_str()), ("<hidden>", "<hidden>"));
        assert_eq!((again.http, again.beat_interval), (settings.http, settings.beat_interval));
        let defaults = settings::print(&Settings::default()).expect("plain data");
        assert_eq!(toml::from_str::<Settings>(&defaults).expect("its own words"), Settings::default());
    }
}
