//! `backstay-coordinator init`: a first configuration, the keys, and what the operator must keep where.

use std::fmt::Write as _;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use age::x25519::Identity;
use backstay_archive::seal;
use backstay_daemon::nats::NatsSettings;
use backstay_daemon::settings::SettingsError;

use crate::config::IDENTITY_FILE;
use crate::keys::write_private;

/// The name of the configuration file.
pub const CONFIG_FILE: &str = "coordinator.toml";
/// The operator's recovery key: created here, to be kept elsewhere.
pub const RECOVERY_FILE: &str = "recovery.key";

/// What to write.
#[derive(Debug, Clone)]
pub struct Plan {
    pub dir: PathBuf,
    /// The folder of the local backend; `None` means S3.
    pub local: Option<PathBuf>,
    pub nats_url: String,
}

#[derive(Debug, thiserror::Error)]
pub enum InitError {
    #[error("{0} already exists: init never overwrites a key or a configuration; choose another --dir")]
    Exists(PathBuf),
    #[error("cannot write {path}: {cause}")]
    Write { path: PathBuf, cause: std::io::Error },
    #[error("--local {0} must be an absolute path: the agents and the coordinator share it")]
    Relative(PathBuf),
    #[error("--nats: {0}")]
    Nats(SettingsError),
}

/// Writes the configuration and the keys, and returns what to tell the operator.
///
/// # Errors
/// The plan makes no sense, or a file cannot be written. A file that exists is never overwritten.
pub fn run(plan: &Plan) -> Result<String, InitError> {
    if let Some(path) = plan.local.as_ref().filter(|p| p.is_relative()) {
        return Err(InitError::Relative(path.clone()));
    }
    // Before anything is written: a coordinator would refuse it.
    let nats = NatsSettings { url: plan.nats_url.clone(), ..NatsSettings::default() };
    nats.check(|_| String::new()).map_err(InitError::Nats)?;
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |cause: std::io::Error| InitError::Write { path, cause }
    };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&plan.dir).map_err(failed(&plan.dir))?;
    let dir = plan.dir.canonicalize().map_err(failed(&plan.dir))?;
    let [config, identity, recovery] = [CONFIG_FILE, IDENTITY_FILE, RECOVERY_FILE].map(|name| dir.join(name));
    if let Some(path) = [&config, &identity, &recovery].into_iter().find(|path| path.exists()) {
        return Err(InitError::Exists(path.clone()));
    }
    let (own, operator) = (Identity::generate(), Identity::generate());
    let own = seal::identity_file(&own, "the coordinator's identity, created by backstay-coordinator init");
    let recovery_text = seal::identity_file(&operator, "the recovery key, created by backstay-coordinator init");
    write_private(&identity, own.as_bytes()).map_err(failed(&identity))?;
    write_private(&recovery, recovery_text.as_bytes()).map_err(failed(&recovery))?;
    let text = configuration(plan, &dir, &operator.to_public().to_string());
    write_private(&config, text.as_bytes()).map_err(failed(&config))?;
    Ok(advice(&config, &identity, &recovery))
}

fn configuration(plan: &Plan, dir: &Path, recipient: &str) -> String {
    let mut text = format!(
        "# Written by backstay-coordinator init.\nstate_dir = {}\n\n[nats]\nurl = {}\n\n",
        quoted(&dir.to_string_lossy()),
        quoted(&plan.nats_url)
    );
    match &plan.local {
        Some(path) => {
            let _ = write!(text, "[storage]\nbackend = \"local\"\npath = {}\n", quoted(&path.to_string_lossy()));
        }
        None => text.push_str("[storage]\nbackend = \"s3\"\n"),
    }
    let _ = write!(
        text,
        "\n[encryption]\n# The public key of {RECOVERY_FILE}, which alone can decrypt every \
         backup.\nrecovery_recipients = [{}]\n",
        quoted(recipient)
    );
    text
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn advice(config: &Path, identity: &Path, recovery: &Path) -> String {
    format!(
        "Wrote {config} (settings)\n\
         Wrote {identity} (the coordinator's identity: keep it here, and copy it to a standby coordinator)\n\
         Wrote {recovery} (the recovery key: decrypts every backup)\n\n\
         Move {recovery} off this machine, to where you keep your most important secrets. With this key and\n\
         the bucket you can restore everything, even if this machine is lost. Without it, losing\n\
         {identity_name} means losing the backups.\n\n\
         Start the coordinator:\n  backstay-coordinator serve --config {config}\n",
        config = config.display(),
        identity = identity.display(),
        recovery = recovery.display(),
        identity_name = IDENTITY_FILE,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use std::os::unix::fs::PermissionsExt;

    fn plan(dir: &Path, local: Option<&str>) -> Plan {
        Plan { dir: dir.join("a \"b\""), local: local.map(PathBuf::from), nats_url: "nats://127.0.0.1:4222".into() }
    }

    #[test]
    fn what_it_writes_can_be_served_and_only_its_owner_reads_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let plan = plan(folder.path(), Some("/srv/backups"));
        let advice = run(&plan).expect("a first configuration");
        assert!(advice.contains("off this machine"), "{advice}");
        for name in [CONFIG_FILE, IDENTITY_FILE, RECOVERY_FILE] {
            let mode = std::fs::metadata(plan.dir.join(name)).expect(name).permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        let config = config::load(Some(&plan.dir.join(CONFIG_FILE)), &[]).expect("it can be read");
        assert_eq!(config.recovery.len(), 1);
        assert_eq!(config.settings.state_dir, plan.dir.canonicalize().expect("there"));
        let text = std::fs::read_to_string(plan.dir.join(CONFIG_FILE)).expect("there");
        assert!(!text.contains("AGE-SECRET-KEY"), "the configuration holds no secret");
    }

    #[test]
    fn an_address_that_is_none_of_nats_is_refused_before_anything_is_written() {
        let folder = tempfile::tempdir().expect("a folder");
        for url in ["http://foo", "ws://h:1", "nats://", "nats://h:1,https://h", "", "nats:///x", "nats://h:notaport"] {
            let plan = Plan { nats_url: url.into(), ..plan(folder.path(), None) };
            let error = run(&plan).expect_err(url).to_string();
            assert!(error.starts_with("--nats: [nats] url"), "{error}");
            assert!(!plan.dir.exists(), "{url}");
        }
        let secret = Plan { nats_url: "http://me:hunter2@h".into(), ..plan(folder.path(), None) };
        let error = run(&secret).expect_err("no address").to_string();
        assert!(!error.contains("hunter2"), "{error}");
        for url in ["nats://h", "h:4222", "tls://h:1, nats://[::1]:4222"] {
            let mut plan = Plan { nats_url: url.into(), ..plan(folder.path(), None) };
            plan.dir = folder.path().join(format!("{}", url.len()));
            run(&plan).expect(url);
        }
    }

    #[test]
    fn it_never_overwrites() {
        let folder = tempfile::tempdir().expect("a folder");
        let plan = plan(folder.path(), None);
        run(&plan).expect("the first time");
        let before = std::fs::read(plan.dir.join(IDENTITY_FILE)).expect("there");
        assert!(run(&plan).expect_err("the second time").to_string().contains("never overwrites"));
        assert_eq!(std::fs::read(plan.dir.join(IDENTITY_FILE)).expect("there"), before);
    }
}
