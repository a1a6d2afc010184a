//! The coordinator's settings: `coordinator.toml`, the environment, flags.

use std::path::{Path, PathBuf};
use std::time::Duration;

use age::x25519::Recipient;
use backstay_archive::seal;
use backstay_archive::store::Key;
use backstay_archive::store::s3::{Addressing, Checksum, ObjectSettings};
use backstay_daemon::http::HttpSettings;
use backstay_daemon::logs::LogFormat;
use backstay_daemon::nats::NatsSettings;
use backstay_daemon::settings::{self, Override};
use backstay_protocol::validate::IntervalBounds;
use serde::{Deserialize, Serialize};

use crate::restore::Limits;

mod error;
mod jetstream;
pub use error::ConfigError;
pub use jetstream::JetStreamSettings;

/// The file in `state_dir` that holds the coordinator's identity.
pub const IDENTITY_FILE: &str = "coordinator.key";

/// Where health and metrics are served when nobody says.
const HTTP_PORT: u16 = 9479;

/// Everything that a coordinator can be told.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    pub nats: NatsSettings,
    pub storage: StorageSettings,
    pub backup: BackupSettings,
    pub restore: RestoreLimits,
    pub encryption: EncryptionSettings,
    /// Holds the coordinator's identity, unless `identity` says otherwise, and a sealed copy of the storage configuration.
    pub state_dir: PathBuf,
    /// The file of the coordinator's identity.
    pub identity: Option<PathBuf>,
    /// Whether an agent's first beat registers its cluster.
    pub auto_register_clusters: bool,
    pub lease: LeaseSettings,
    pub jetstream: JetStreamSettings,
    /// Health, readiness and metrics.
    pub http: HttpSettings,
    pub log: LogFormat,
}

impl Settings {
    /// Where the coordinator's identity lies.
    pub fn identity_file(&self) -> PathBuf {
        self.identity.clone().unwrap_or_else(|| self.state_dir.join(IDENTITY_FILE))
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            nats: NatsSettings::default(),
            storage: StorageSettings::default(),
            backup: BackupSettings::default(),
            restore: RestoreLimits::default(),
            encryption: EncryptionSettings::default(),
            state_dir: PathBuf::from("/var/lib/backstay-coordinator"),
            identity: None,
            auto_register_clusters: true,
            lease: LeaseSettings::default(),
            jetstream: JetStreamSettings::default(),
            http: HttpSettings::on_loopback(HTTP_PORT),
            log: LogFormat::default(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    #[default]
    S3,
    Local,
}

impl Backend {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Local => "local",
        }
    }
}

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct StorageSettings {
    /// `s3` where nothing is said.
    pub backend: Option<Backend>,
    /// The folder of the `local` backend, as agents and coordinator both see it.
    pub path: Option<PathBuf>,
    /// A CA to trust for S3, in place of the machine's own.
    pub ca: Option<PathBuf>,
    /// Everything is kept below this in the bucket: empty, or segments such as `a/b`.
    pub prefix: String,
    /// Of backups, such as `STANDARD_IA`; empty: the bucket's own.
    pub storage_class: String,
    /// `AES256`, `aws:kms` or `aws:kms:dsse`; empty: as the bucket says.
    pub server_side_encryption: String,
    /// The key of `aws:kms`.
    pub kms_key_id: String,
    /// Where the bucket's name goes: `auto`, `path` or `virtual`.
    pub addressing: Addressing,
    /// What goes with each body: `auto`, `md5`, `crc32c` or `none`.
    pub checksum: Checksum,
}

impl StorageSettings {
    /// How the bucket is to keep what is put there.
    pub fn objects(&self) -> ObjectSettings {
        ObjectSettings {
            storage_class: self.storage_class.clone(),
            server_side_encryption: self.server_side_encryption.clone(),
            kms_key_id: self.kms_key_id.clone(),
        }
    }

    /// Whether anything is set that only S3 knows.
    fn only_s3(&self) -> bool {
        self.ca.is_some()
            || !self.prefix.is_empty()
            || self.objects() != ObjectSettings::default()
            || self.addressing != Addressing::default()
            || self.checksum != Checksum::default()
    }
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct BackupSettings {
    #[serde(with = "settings::duration")]
    pub min_interval: Duration,
    #[serde(with = "settings::duration")]
    pub max_interval: Duration,
    /// How far a backup may be moved forward so that a fleet does not back up at once; at most a tenth of the interval.
    #[serde(with = "settings::duration")]
    pub jitter: Duration,
    /// Attempts at the same time in the whole fleet; 0 sets no limit.
    pub parallel: usize,
    /// The longest that one attempt may take.
    #[serde(with = "settings::duration")]
    pub deadline: Duration,
    /// No byte from etcd for this long and the attempt fails.
    #[serde(with = "settings::duration")]
    pub stall: Duration,
    /// Bytes per second that one agent may send to the store; 0 sets no limit.
    pub upload_limit: u64,
    /// The first pause after a failed automatic backup; it doubles with each further failure.
    #[serde(with = "settings::duration")]
    pub retry_pause: Duration,
}

impl Default for BackupSettings {
    fn default() -> Self {
        let bounds = IntervalBounds::default();
        Self {
            min_interval: bounds.min,
            max_interval: bounds.max,
            jitter: Duration::from_secs(600),
            parallel: 0,
            deadline: Duration::from_secs(2 * 3600),
            stall: Duration::from_secs(60),
            upload_limit: 0,
            retry_pause: Duration::from_secs(30),
        }
    }
}

impl BackupSettings {
    pub fn bounds(&self) -> IntervalBounds {
        IntervalBounds { min: self.min_interval, max: self.max_interval }
    }
}

/// `[restore]`: how long the parts of a cluster's restore may take.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RestoreLimits {
    /// Fetching and preparing, on all machines.
    #[serde(with = "settings::duration")]
    pub prepare_timeout: Duration,
    /// From the first stop of etcd until all members agree.
    #[serde(with = "settings::duration")]
    pub switch_timeout: Duration,
    /// So long a machine may not answer while the others prepare.
    #[serde(with = "settings::duration")]
    pub silence: Duration,
}

impl Default for RestoreLimits {
    fn default() -> Self {
        Self {
            prepare_timeout: Duration::from_secs(2 * 3600),
            switch_timeout: Duration::from_secs(600),
            silence: Duration::from_secs(60),
        }
    }
}

impl RestoreLimits {
    pub fn limits(&self) -> Limits {
        Limits { prepare: self.prepare_timeout, switch: self.switch_timeout, silence: self.silence }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EncryptionMode {
    Off,
}

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct EncryptionSettings {
    /// Who can open every backup besides the coordinator; their private halves are kept elsewhere.
    pub recovery_recipients: Vec<String>,
    /// `off` stores backups that everybody can read who can read the store.
    pub mode: Option<EncryptionMode>,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct LeaseSettings {
    /// How long a coordinator that died keeps its successor waiting.
    #[serde(with = "settings::duration")]
    pub ttl: Duration,
}

impl Default for LeaseSettings {
    fn default() -> Self {
        Self { ttl: Duration::from_secs(15) }
    }
}

/// Server-side encryption with a key of AWS's key management, once and twice.
const KMS: &str = "aws:kms";
const KMS_TWICE: &str = "aws:kms:dsse";

/// Settings that were checked: what the rest of the coordinator works with.
#[derive(Debug, Clone)]
pub struct Config {
    pub settings: Settings,
    pub storage: Storage,
    /// Empty only where encryption is switched off.
    pub recovery: Vec<Recipient>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Storage {
    S3,
    Local(PathBuf),
}

impl Storage {
    /// `s3` or `local`, as the overall status names it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::S3 => Backend::S3.as_str(),
            Self::Local(_) => Backend::Local.as_str(),
        }
    }
}

/// Reads the settings from all layers and checks them.
///
/// # Errors
/// The file cannot be read, a layer does not fit, or the settings contradict each other; with file and line if that is
/// known.
pub fn load(file: Option<&Path>, overrides: &[Override]) -> Result<Config, ConfigError> {
    let settings: Settings = settings::load(file, overrides)?;
    settings.nats.check(|key| settings::place(file, overrides, key))?;
    check(settings).map_err(|error| match error.key() {
        Some(key) => ConfigError::At { place: settings::place(file, overrides, key), error: Box::new(error) },
        None => error,
    })
}

/// Checks settings that were read already.
///
/// # Errors
/// The first setting that is out of range, missing or contradicts another one.
pub fn check(settings: Settings) -> Result<Config, ConfigError> {
    let storage = storage(&settings.storage)?;
    let encryption = &settings.encryption;
    match (encryption.mode, encryption.recovery_recipients.is_empty()) {
        (None, true) => return Err(ConfigError::NoRecovery),
        (Some(EncryptionMode::Off), false) => return Err(ConfigError::OffWithRecipients),
        _ => {}
    }
    let recovery = encryption.recovery_recipients.iter().map(|r| seal::parse_recipient(r)).collect::<Result<_, _>>()?;
    let backup = &settings.backup;
    if backup.min_interval > backup.max_interval || backup.min_interval.is_zero() {
        return Err(ConfigError::Range {
            key: "backup.min_interval",
            text: "min_interval must be above 0 and at most max_interval".into(),
        });
    }
    let restore = &settings.restore;
    // No network keeps to less than a second.
    for (key, value, least) in [
        ("restore.prepare_timeout", restore.prepare_timeout, Duration::from_secs(1)),
        ("restore.switch_timeout", restore.switch_timeout, Duration::from_secs(1)),
        ("restore.silence", restore.silence, Duration::from_secs(1)),
        ("backup.deadline", backup.deadline, Duration::from_secs(1)),
        ("backup.stall", backup.stall, Duration::from_secs(1)),
        ("backup.retry_pause", backup.retry_pause, Duration::from_millis(1)),
    ] {
        if value < least || value.as_millis() > u128::from(u32::MAX) {
            let name = key.rsplit('.').next().unwrap_or(key);
            return Err(ConfigError::Range { key, text: format!("{name} must be from {least:?} to 1000h") });
        }
    }
    if settings.lease.ttl < Duration::from_secs(1) {
        return Err(ConfigError::Lease(settings.lease.ttl));
    }
    settings.jetstream.check()?;
    Ok(Config { storage, recovery, settings })
}

fn storage(settings: &StorageSettings) -> Result<Storage, ConfigError> {
    let wrong = |key, text: String| Err(ConfigError::Objects { key, text });
    let prefix = settings.prefix.trim_matches('/');
    if !prefix.is_empty() && Key::new(prefix).is_none() {
        let text = format!("prefix {:?} must be segments separated by /, such as a/b", settings.prefix);
        return wrong("storage.prefix", text);
    }
    let encryption = settings.server_side_encryption.as_str();
    if !["", "AES256", KMS, KMS_TWICE].contains(&encryption) {
        let text = format!("server_side_encryption must be AES256, {KMS} or {KMS_TWICE}, got {encryption:?}");
        return wrong("storage.server_side_encryption", text);
    }
    if !settings.kms_key_id.is_empty() && ![KMS, KMS_TWICE].contains(&encryption) {
        let text = format!("kms_key_id can only be used with server_side_encryption = {KMS:?} or {KMS_TWICE:?}");
        return wrong("storage.kms_key_id", text);
    }
    match (settings.backend, &settings.path) {
        (Some(Backend::S3), Some(_)) => Err(ConfigError::BothBackends),
        (Some(Backend::S3) | None, None) => Ok(Storage::S3),
        (Some(Backend::Local), None) => Err(ConfigError::NoPath),
        (Some(Backend::Local) | None, Some(_)) if settings.only_s3() => Err(ConfigError::NotS3),
        (Some(Backend::Local) | None, Some(path)) if path.is_relative() => Err(ConfigError::RelativePath(path.clone())),
        (Some(Backend::Local) | None, Some(path)) => Ok(Storage::Local(path.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, String> {
        let parsed = settings::parse(Path::new("coordinator.toml"), text, &[]).map_err(|e| e.to_string())?;
        check(parsed).map_err(|e| e.to_string())
    }

    const OFF: &str = "[encryption]\nmode = 'off'\n";

    #[test]
    fn without_a_recovery_recipient_it_refuses_and_says_why() {
        let error = read("").expect_err("nobody could open the backups");
        assert!(error.starts_with("there is no recovery recipient") && error.contains("mode = \"off\""), "{error}");
        assert!(read(OFF).is_ok());
        let recipient = age::x25519::Identity::generate().to_public();
        assert!(read(&format!("[encryption]\nrecovery_recipients = ['{recipient}']")).is_ok());
        assert!(read(&format!("[encryption]\nmode='off'\nrecovery_recipients = ['{recipient}']")).is_err());
        assert!(read("[encryption]\nrecovery_recipients = ['age1nonsense']").is_err());
    }

    #[test]
    fn one_backend_or_the_other() {
        assert!(matches!(read(OFF).expect("s3").storage, Storage::S3));
        assert!(matches!(read(&format!("{OFF}[storage]\npath = '/b'")).expect("local").storage, Storage::Local(_)));
        for (text, part) in [
            ("backend='s3'\npath='/b'", "both"),
            ("backend='local'", "needs a path"),
            ("backend='local'\npath='b'", "absolute"),
        ] {
            let error = read(&format!("{OFF}[storage]\n{text}")).expect_err(text);
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn nonsense_is_refused_with_its_line() {
        let error = read(&format!("{OFF}[backup]\nmin_intervall = '1m'")).expect_err("misspelt");
        assert!(error.contains("line 4") && error.contains("min_intervall"), "{error}");
        assert!(read(&format!("{OFF}[backup]\nmin_interval = '2h'\nmax_interval = '1h'")).is_err());
    }

    #[test]
    fn nonsense_that_can_be_read_is_refused_with_its_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("coordinator.toml");
        for (text, says) in [
            ("[backup]\nstall = '1ms'", "line 4: [backup] stall must be from 1s to 1000h"),
            ("[restore]\nsilence = '0s'", "line 4: [restore] silence must be from 1s to 1000h"),
            ("[backup]\nretry_pause = '0s'", "line 4: [backup] retry_pause must be from 1ms"),
            ("[backup]\nparallel = 2\nmin_interval = '48h'", "line 5: [backup] min_interval must be"),
            ("[lease]\nttl = '1ms'", "line 4: [lease] ttl must be"),
            ("[jetstream]\n\nreplicas = 2", "line 5: [jetstream] replicas must be"),
            ("[jetstream]\nkv_max_bytes = 10", "line 4: [jetstream] kv_max_bytes must be at least 1048576"),
            ("[jetstream]\nreports_max_bytes = 0", "line 4: [jetstream] reports_max_bytes must be at least 1048576"),
            ("[storage]\npath = 'b'", "line 4: [storage] path b must be absolute"),
            ("[storage]\nprefix = 'a//b'", "line 4: [storage] prefix \"a//b\" must be segments"),
            ("[storage]\nserver_side_encryption = 'yes'", "line 4: [storage] server_side_encryption must be"),
            ("[storage]\nkms_key_id = 'k'", "line 4: [storage] kms_key_id can only be used with"),
            ("[nats]\nuser = 'u'\nnkey = '/n'", "line 5: [nats] user, credentials and nkey"),
            ("[nats]\nurl = 'http://h'", "line 4: [nats] url is not a valid NATS address"),
        ] {
            std::fs::write(&file, format!("{OFF}{text}\n")).expect("writable");
            let error = load(Some(&file), &[]).expect_err(text).to_string();
            assert!(error.starts_with(&file.display().to_string()) && error.contains(says), "{error}");
        }
        std::fs::write(&file, OFF).expect("writable");
        let error = load(Some(&file), &[Override::new("lease.ttl", "1ms")]).expect_err("too short").to_string();
        assert!(error.starts_with("[lease] ttl"), "the file is not to blame: {error}");
    }

    #[test]
    fn no_setting_looks_like_a_variable_of_a_service() {
        let keys = settings::keys::of::<Settings>();
        assert!(keys.contains(&vec!["storage", "server_side_encryption"]) && keys.len() > 30, "{keys:?}");
        for (key, value) in keys.iter().flat_map(|key| ["tcp://h:1", "9479", "x"].map(|value| (key, value))) {
            let name = settings::variable(key);
            assert!(!settings::is_of_a_service(&name, value), "{name}");
        }
    }

    #[test]
    fn what_is_printed_can_be_used_again_and_holds_no_secret() {
        for (login, shown) in [
            ("user = 'u'\npassword = 'hunter2'", "password = \"<hidden>\""),
            ("url = 'nats://u:hunter2@h:1'", "nats://<hidden>@h:1"),
        ] {
            let text = format!("{OFF}[nats]\n{login}\n[backup]\nstall = '90s'");
            let printed = settings::print(&read(&text).expect("valid").settings).expect("plain data");
            assert!(!printed.contains("hunter2") && printed.contains(shown), "{printed}");
            let again = read(&printed).expect("its own words").settings;
            assert_eq!(again.backup.stall, Duration::from_secs(90));
            assert_eq!(settings::print(&again).expect("plain data"), printed);
        }
    }
}
