//! The command line, and the settings that result from it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use backstay_archive::seal::{self, Recipient, SealError};
use backstay_archive::trust::SigningKey;
use backstay_archive::writer::Limits;
use backstay_daemon::bucket::{Named, WritableBucket};
use backstay_daemon::key_file;
use backstay_daemon::logs::LogFormat;
use backstay_daemon::settings::Override;
use backstay_daemon::signers::SignerFlags;
use backstay_daemon::tips::Tip;
use backstay_protocol::{ClusterName, ClusterUuid, MachineId};
use clap::{Args, Parser, Subcommand};

use crate::etcd::{EtcdSettings, Words};
use crate::once::Once;
use crate::proof::settings::InspectionSettings;

/// What is typed by habit of etcdctl's flags, and what it is here.
pub const TIPS: [Tip; 4] = [
    Tip { commands: &["once"], given: &["--endpoints"], tip: "the flag for etcd's URLs is '--etcd'" },
    Tip { commands: &["once"], given: &["--cacert"], tip: "the flag for etcd's CA is '--etcd-ca'" },
    Tip { commands: &["once"], given: &["--cert"], tip: "the flag for the client certificate is '--etcd-cert'" },
    Tip { commands: &["once"], given: &["--key"], tip: "the flag for the client certificate's key is '--etcd-key'" },
];

/// Backs up this machine's etcd and verifies each backup before it becomes visible.
#[derive(Debug, Parser)]
#[command(name = "backstay-agent", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the agent: carry out the coordinator's commands until SIGTERM
    #[command(after_help = RUN_HELP)]
    Run(RunArgs),
    /// Take one backup now, without NATS or a coordinator
    #[command(after_help = ONCE_EXAMPLES)]
    Once(Box<OnceArgs>),
}

const RUN_HELP: &str = "\
Settings come from the configuration file, then the environment (BACKSTAY_ and
the key in capitals, with __ between levels, such as BACKSTAY_NATS__URL), then
flags. Later ones override earlier ones. The sample agent.toml explains every
setting.

Examples:
  backstay-agent run --config /etc/backstay/agent.toml
  backstay-agent run --config /etc/backstay/agent.toml --print-config";

const ONCE_EXAMPLES: &str = "\
Exit codes:
  0  the backup is stored and passed every check
  1  no backup was made; the message is on stderr
  2  invalid command line

Examples:
  backstay-agent once --cluster prod --etcd http://127.0.0.1:2379 --store file:///var/backups/etcd \\
      --recipient age1…
  AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=… AWS_ENDPOINT_URL=http://127.0.0.1:9000 \\
      backstay-agent once --cluster prod --etcd https://127.0.0.1:2379 --etcd-ca ca.crt --etcd-cert client.crt \\
      --etcd-key client.key --store s3://backups/etcd --recipient age1…";

/// Flags of `run`. Flags override the environment, which overrides the file.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Configuration file (agent.toml)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Name of the cluster that this machine's etcd belongs to
    #[arg(long, value_name = "NAME")]
    cluster: Option<ClusterName>,
    /// UUID of this machine [default: read from the machine's hardware or /etc/machine-id]
    #[arg(long, value_name = "UUID")]
    machine: Option<MachineId>,
    /// Directory for state that must survive a restart
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// URL of the NATS server; separate several with commas
    #[arg(long, value_name = "URL")]
    nats: Option<String>,
    /// Log format: text or json
    #[arg(long, value_name = "FORMAT")]
    log: Option<LogFormat>,
    /// Print the effective settings, without secrets, and exit
    #[arg(long)]
    pub print_config: bool,
}

impl RunArgs {
    /// The flags as settings.
    pub fn overrides(&self) -> Vec<Override> {
        let log = self.log.map(|log| match log {
            LogFormat::Text => "text".to_owned(),
            LogFormat::Json => "json".to_owned(),
        });
        let state_dir = self.state_dir.as_ref().map(|path| path.to_string_lossy().into_owned());
        let flags = [
            ("cluster", self.cluster.as_ref().map(ToString::to_string)),
            ("machine", self.machine.map(|m| m.to_string())),
            ("state_dir", state_dir),
            ("nats.url", self.nats.clone()),
            ("log", log),
        ];
        flags.into_iter().filter_map(|(key, value)| Some(Override::new(key, value?))).collect()
    }
}

/// Flags of `once`.
#[derive(Debug, Args)]
pub struct OnceArgs {
    /// Name of the cluster
    #[arg(long, value_name = "NAME")]
    cluster: ClusterName,
    /// UUID of the cluster in the store [default: looked up by name, or created]
    #[arg(long, value_name = "UUID")]
    cluster_uuid: Option<ClusterUuid>,
    /// Accept that this etcd was restored or recreated and replaces the one in the newest backup. Without this flag,
    /// an etcd with a different cluster ID or a lower revision is refused
    #[arg(long)]
    new_cluster_id: bool,
    /// Client URL of the etcd member to back up; several, separated by commas, are tried in order
    #[arg(long, value_name = "URL", required = true, value_delimiter = ',')]
    etcd: Vec<String>,
    /// CA certificate to verify etcd with
    #[arg(long, value_name = "FILE")]
    etcd_ca: Option<PathBuf>,
    /// Client certificate for etcd
    #[arg(long, value_name = "FILE", requires = "etcd_key")]
    etcd_cert: Option<PathBuf>,
    /// Private key of the client certificate
    #[arg(long, value_name = "FILE", requires = "etcd_cert")]
    etcd_key: Option<PathBuf>,
    /// etcd user with the root role
    #[arg(long, value_name = "USER", requires = "etcd_password_file")]
    etcd_user: Option<String>,
    /// File that contains the password of the etcd user
    #[arg(long, value_name = "FILE", requires = "etcd_user")]
    etcd_password_file: Option<PathBuf>,
    /// URL of the store: file:///path or s3://bucket[/prefix]
    #[arg(long, value_name = "URL")]
    store: String,
    /// age recipient (age1…) that can decrypt the backup; can be repeated. Without one, the backup is not encrypted
    #[arg(long = "recipient", value_name = "RECIPIENT")]
    recipients: Vec<String>,
    /// File with recipients, one on each line, as for `age -R`; can be repeated
    #[arg(long = "recipients-file", value_name = "FILE")]
    recipients_files: Vec<PathBuf>,
    /// Store the backup unencrypted although earlier backups of the cluster are encrypted
    #[arg(long)]
    allow_unencrypted: bool,
    /// SSH private key (Ed25519, without a passphrase) to sign the backup with. Without one, the backup is unsigned
    #[arg(long, value_name = "FILE")]
    sign_key: Option<PathBuf>,
    #[command(flatten)]
    signers: SignerFlags,
    #[command(flatten)]
    bucket: WritableBucket,
    /// Upload at most this many bytes per second; the first part (8 MiB) is not limited
    #[arg(long, value_name = "BYTES", value_parser = at_least_one)]
    upload_limit: Option<u64>,
    /// Give up after this time, such as 90m
    #[arg(long, value_name = "DURATION", default_value = "6h", value_parser = duration)]
    deadline: Duration,
    /// Give up if etcd sends no data for this long
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    stall: Duration,
    /// Do not inspect the database: check neither its pages nor another member
    #[arg(long)]
    no_inspection: bool,
    /// Inspect the database, but do not compare it with another member
    #[arg(long, conflicts_with = "no_inspection")]
    no_ask: bool,
    /// Maximum memory for the inspection, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = InspectionSettings::default().memory_limit, value_parser = bytes)]
    inspection_memory: u64,
}

fn bytes(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "must be a number of bytes without a unit, such as 1000000".into())
}

fn at_least_one(text: &str) -> Result<u64, String> {
    match bytes(text)? {
        0 => Err("must be at least 1".into()),
        bytes => Ok(bytes),
    }
}

/// Why a recipient is none. What is no key at all may be a file of keys.
fn recipient(text: &str, error: &SealError) -> String {
    let text = text.trim().to_ascii_lowercase();
    let is_key = text.starts_with("age1") || text.starts_with("age-secret-key");
    let hint = if is_key { "" } else { "; --recipients-file FILE reads recipients from a file" };
    format!("--recipient: {error}{hint}")
}

fn duration(text: &str) -> Result<Duration, String> {
    match backstay_protocol::duration::parse(text) {
        Ok(duration) if duration.is_zero() => Err("must be more than 0".into()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(error.to_string()),
    }
}

impl OnceArgs {
    /// What is to be done.
    ///
    /// # Errors
    /// In words, for whoever typed it.
    pub fn resolve(self) -> Result<(Once, EtcdSettings, InspectionSettings), String> {
        let inspection = InspectionSettings {
            enabled: !self.no_inspection,
            ask: !self.no_ask,
            memory_limit: self.inspection_memory,
            ..InspectionSettings::default()
        };
        let recipients = self.recipients()?;
        let named = Named { url: self.store, flags: self.bucket.words() };
        let once = Once {
            cluster: self.cluster,
            cluster_uuid: self.cluster_uuid,
            new_cluster_id: self.new_cluster_id,
            store: named.parse(self.bucket.settings())?,
            named,
            recipients,
            allow_unencrypted: self.allow_unencrypted,
            sign_key: self.sign_key.as_deref().map(signing_key).transpose()?.map(Arc::new),
            signers: self.signers.signers()?,
            limits: Limits { upload_bytes_per_second: self.upload_limit, ..Limits::default() },
            deadline: self.deadline,
            stall: self.stall,
        };
        let etcd = EtcdSettings {
            endpoints: self.etcd,
            ca: self.etcd_ca,
            cert: self.etcd_cert,
            key: self.etcd_key,
            user: self.etcd_user.unwrap_or_default(),
            password: String::new(),
            password_file: self.etcd_password_file,
            words: Words::Flags,
        };
        if let Some((_, text)) = etcd.contradiction() {
            return Err(text);
        }
        Ok((once, etcd, inspection))
    }

    /// Each once, those of the flags first.
    fn recipients(&self) -> Result<Vec<Recipient>, String> {
        let given = self.recipients.iter().map(|text| seal::parse_recipient(text).map_err(|e| recipient(text, &e)));
        let mut recipients = given.collect::<Result<Vec<_>, _>>()?;
        for path in &self.recipients_files {
            recipients.extend(recipients_in(path)?);
        }
        let mut unique: Vec<Recipient> = Vec::new();
        for recipient in recipients {
            if !unique.contains(&recipient) {
                unique.push(recipient);
            }
        }
        Ok(unique)
    }
}

/// The key in an OpenSSH private key file.
fn signing_key(path: &Path) -> Result<SigningKey, String> {
    let failed = |why: String| format!("--sign-key {}: {why}", path.display());
    let text = key_file::read(path).map_err(|error| failed(error.to_string()))?;
    SigningKey::from_openssh(&text).map_err(|error| failed(error.to_string()))
}

/// The recipients of a file; blank lines and those that begin with # are passed over. One without any is refused: the backup
/// would not be encrypted.
fn recipients_in(path: &Path) -> Result<Vec<Recipient>, String> {
    let failed = |why: String| format!("--recipients-file {}: {why}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.trim().starts_with('#'));
    let parsed = lines
        .map(|(n, line)| seal::parse_recipient(line).map_err(|error| failed(format!("line {}: {error}", n + 1))))
        .collect::<Result<Vec<_>, _>>()?;
    if parsed.is_empty() { Err(failed("it holds no recipient (age1…)".into())) } else { Ok(parsed) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backstay_archive::store::spec::StoreSpec;
    use backstay_daemon::tips;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Command, String> {
        Cli::try_parse_from(line.split_whitespace()).map(|cli| cli.command).map_err(|e| e.to_string())
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_of_run_are_settings() {
        let Ok(Command::Run(run)) =
            parse("backstay-agent run --config a.toml --cluster c --nats nats://h:1 --log json")
        else {
            panic!("a run")
        };
        let expected =
            [("cluster", "c"), ("nats.url", "nats://h:1"), ("log", "json")].map(|(k, v)| Override::new(k, v));
        assert_eq!(run.overrides(), expected);
    }

    #[test]
    fn once_has_a_store_and_an_etcd() {
        let line = "backstay-agent once --cluster c --etcd http://e:1,http://e:2 --store s3://b/p --region eu --endpoint http://f --s3-ca /ca";
        let Ok(Command::Once(once)) = parse(line) else { panic!("once") };
        let (once, etcd, inspection) = once.resolve().expect("valid");
        let StoreSpec::S3(s3) = once.store else { panic!("a bucket") };
        assert_eq!((s3.bucket.as_str(), s3.prefix.as_str(), s3.region.as_str()), ("b", "p", "eu"));
        assert_eq!((s3.endpoint.as_str(), s3.ca_file), ("http://f", Some("/ca".into())));
        assert_eq!(etcd.endpoints, ["http://e:1", "http://e:2"]);
        assert_eq!(inspection, InspectionSettings::default());
    }

    #[test]
    fn a_flag_that_is_missing_is_named_as_the_flag() {
        for (flags, says) in [
            ("--etcd https://e:1", "--etcd-ca is required for an https endpoint"),
            ("--etcd ftp://e:1", "--etcd: \"ftp://e:1\" must be http:// or https:// with a host and a port"),
            ("--etcd http://u:p@e:1", "set --etcd-user and --etcd-password-file"),
        ] {
            let line = format!("backstay-agent once --cluster c --store file:///x {flags}");
            let Ok(Command::Once(once)) = parse(&line) else { panic!("once") };
            let error = once.resolve().expect_err(says);
            assert!(error.contains(says) && !error.contains("[etcd]"), "{error}");
        }
    }

    #[test]
    fn a_flag_of_etcdctl_is_answered_with_ours() {
        let line = "backstay-agent once --cluster c --endpoints http://e:1 --store file:///x";
        let error = Cli::try_parse_from(line.split_whitespace()).expect_err("no such flag");
        let text = tips::helpful(error, &TIPS).render().to_string();
        assert!(text.contains("'--etcd'") && !text.contains("'--endpoint'"), "{text}");
    }

    #[test]
    fn what_does_not_fit_is_said() {
        for line in [
            "backstay-agent once --cluster c --store file:///x",
            "backstay-agent once --cluster a.b --etcd http://e:1 --store file:///x",
            "backstay-agent once --cluster c --etcd http://e:1 --store file:///x --etcd-cert c",
            "backstay-agent once --cluster c --etcd http://e:1 --store file:///x --stall 0s",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
        let line = "backstay-agent once --cluster c --etcd http://e:1 --store file:///x --recipient AGE-SECRET-KEY-1X";
        let Ok(Command::Once(once)) = parse(line) else { panic!("once") };
        let error = once.resolve().expect_err("a secret is no recipient");
        assert!(!error.contains("AGE-SECRET") && error.starts_with("--recipient: "), "{error}");
        assert!(error.contains("this is a secret key"), "{error}");
        let Ok(Command::Once(once)) = parse(&line.replace("AGE-SECRET-KEY-1X", "keys.txt")) else { panic!("once") };
        let error = once.resolve().expect_err("a file is no recipient");
        assert!(error.ends_with("--recipients-file FILE reads recipients from a file"), "{error}");
        for (limit, says) in [("1M", "a number of bytes without a unit"), ("0", "must be at least 1")] {
            let line = "backstay-agent once --cluster c --etcd http://e:1 --store file:///x --upload-limit";
            let error = parse(&format!("{line} {limit}")).expect_err("no limit");
            assert!(error.contains(says), "{error}");
        }
    }

    const FIRST: &str = "age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg";

    /// What comes of one recipient as a flag and of this text in a file.
    fn recipients(in_file: &str) -> Result<Vec<String>, String> {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), in_file).expect("written");
        let line = "backstay-agent once --cluster c --etcd http://e:1 --store file:///x --recipient";
        let line = format!("{line} {FIRST} --recipients-file {}", file.path().display());
        let Ok(Command::Once(once)) = parse(&line) else { panic!("once") };
        let (once, ..) = once.resolve()?;
        Ok(once.recipients.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn recipients_come_from_flags_and_files() {
        let second = seal::Identity::generate().to_public().to_string();
        let text = format!("# those who may restore\n\n{second}\r\n {FIRST}\n");
        assert_eq!(recipients(&text), Ok(vec![FIRST.to_owned(), second]));
        let error = recipients("# nobody\n").expect_err("nobody could open it, or everybody");
        assert!(
            error.starts_with("--recipients-file /") && error.ends_with("it holds no recipient (age1…)"),
            "{error}"
        );
        let error = recipients(&format!("{FIRST}\nAGE-SECRET-KEY-1X\n")).expect_err("a secret is no recipient");
        assert!(error.contains(": line 2: ") && !error.contains("AGE-SECRET"), "{error}");
        let line = "backstay-agent once --cluster c --etcd http://e:1 --store file:///x --recipients-file /no/such";
        let Ok(Command::Once(once)) = parse(line) else { panic!("once") };
        let error = once.resolve().expect_err("no such file");
        assert!(error.starts_with("--recipients-file /no/such: No such file"), "{error}");
    }

    #[test]
    fn the_store_is_remembered_as_it_was_typed() {
        let line =
            "backstay-agent once --cluster c --etcd http://e:1 --store s3://b/p --endpoint http://h --storage-class X";
        let Ok(Command::Once(once)) = parse(line) else { panic!("once") };
        let (once, ..) = once.resolve().expect("valid");
        let flags = vec!["--endpoint".to_owned(), "http://h".to_owned()];
        assert_eq!(once.named, Named { url: "s3://b/p".into(), flags });
    }
}
