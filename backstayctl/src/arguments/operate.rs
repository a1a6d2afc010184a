//! Arguments and help of the commands for daily work: status, backup, verify.

use std::time::Duration;

use backstay_protocol::duration;
use clap::{Args, ValueEnum};

use crate::output::Format;

pub const STATUS_HELP: &str = "\
Shows each cluster's most serious problem, the reason, and the command to run
next:
  no storage   backup storage is not configured, or does not work
  no agent     no agent of the cluster is connected
  damaged      verification found a damaged backup, and no newer one has passed
  never        the cluster has no backup
  failing      the latest backup attempt failed
  clock        the last backup is dated in the future: a clock is or was wrong
  stale        the last good backup is older than interval plus grace period
  restoring    the cluster is being restored
  member down  an agent is connected, but its etcd does not answer
  2/3 agents   some etcd members have no connected agent
  unproven     the last verification could not be run
  no schedule  no interval is set, and the schedule is not off
  off          automatic backups were turned off, and nothing else is wrong
  ok           none of the above

Exit codes:
  0  every cluster is ok or off, and every known clock is right
  1  the status could not be determined
  3  a cluster or a clock is not ok, or there are no clusters

Examples:
  backstayctl status
  backstayctl status talos-default
  backstayctl status --watch
  backstayctl status --grace 30m -o json";

pub const SCHEDULE_HELP: &str = "\
Without an interval, shows how often the cluster is backed up. With an interval,
sets it, and changes nothing else in the cluster's resource. `off` stops
automatic backups; set an interval to start them again.

Examples:
  backstayctl schedule talos-default
  backstayctl schedule talos-default 1h
  backstayctl schedule talos-default off";

pub const BACKUP_HELP: &str = "\
Starts a backup. With --wait, the command follows it to the end. Progress is
shown as a bar, or as a line for each change if stderr is not a terminal.

Interrupting the command does not stop the backup: Ctrl-C ends only this
command.

Exit codes:
  0    the backup was started; with --wait, it is stored and passed every check
  1    the backup was not started or failed, or --timeout passed
  130  Ctrl-C ended this command, and the backup goes on

Examples:
  backstayctl backup talos-default
  backstayctl backup talos-default --wait --timeout 30m";

pub const VERIFY_HELP: &str = "\
One of the cluster's agents downloads the backup, decrypts it, and checks every
digest and every database page. With --boot the agent also restores the backup
into a scratch directory, starts an etcd on it (on loopback ports only),
compares HashKV and reads keys back. `backstayctl status` shows when and how a
backup of each cluster was last verified. A failed verification is shown there
until that backup or a newer one passes.

Without a coordinator, restore the backup into a scratch directory instead
(`backstayctl restore --store`, see the examples): a restore checks everything.
With --dry-run it does not read the backup's content.

Exit codes:
  0    the backup passed every check
  1    the verification could not be run, or --timeout passed
  3    the backup is damaged
  130  Ctrl-C ended this command, and the verification goes on

Examples:
  backstayctl verify talos-default
  backstayctl verify talos-default --snapshot FFFFFFFF9A99FBF6.snapshot --boot
  backstayctl verify talos-default -o json
  backstayctl restore --store s3://etcd-backups --cluster talos-default --snapshot latest \\
    --identity recovery.key --data-dir /var/tmp/scratch";

#[derive(Debug, Args)]
pub struct Status {
    /// Show only these clusters
    #[arg(value_name = "CLUSTER")]
    pub clusters: Vec<String>,
    /// How far past its interval a backup may age before it is stale [default: a tenth of the interval, at least 5m]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub grace: Option<Duration>,
    /// Output format: table, wide, yaml or json
    #[arg(short, long, default_value = "table", value_name = "FORMAT")]
    pub output: Form,
    /// Keep watching: redraw on a terminal, otherwise print again on each change
    #[arg(short, long)]
    pub watch: bool,
    /// Print the table without its heading
    #[arg(long)]
    pub no_headers: bool,
}

#[derive(Debug, Args)]
pub struct Schedule {
    /// Name of the cluster
    #[arg(value_name = "CLUSTER")]
    pub cluster: String,
    /// How often to back it up, such as 1h or 30m; `off` turns automatic backups off
    #[arg(value_name = "INTERVAL|off", value_parser = Interval::parse)]
    pub interval: Option<Interval>,
}

/// What a schedule is set to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interval {
    Every(Duration),
    Off,
}

impl Interval {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            text => match duration::parse(text) {
                Ok(every) if every.is_zero() => Err("must be more than 0; `off` stops automatic backups".into()),
                Ok(every) => Ok(Self::Every(every)),
                Err(error) => Err(error.to_string()),
            },
        }
    }
}

/// The output formats of commands that do not print resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    #[default]
    Table,
    Wide,
    Yaml,
    Json,
}

impl std::str::FromStr for Form {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "table" => Ok(Self::Table),
            "wide" => Ok(Self::Wide),
            "yaml" => Ok(Self::Yaml),
            "json" => Ok(Self::Json),
            _ => Err(format!("output format {text:?} is not supported: use table, wide, yaml or json")),
        }
    }
}

#[derive(Debug, Args)]
pub struct Backup {
    /// Name of the cluster
    #[arg(value_name = "CLUSTER")]
    pub cluster: String,
    /// Follow the backup to its end
    #[arg(short, long)]
    pub wait: bool,
    /// How long to wait
    #[arg(long, default_value = "1h", value_name = "DURATION", value_parser = duration::parse, requires = "wait")]
    pub timeout: Duration,
}

#[derive(Debug, Args)]
pub struct Verify {
    /// Name of the cluster
    #[arg(value_name = "CLUSTER")]
    pub cluster: String,
    /// The backup: its name, or `latest`
    #[arg(long, value_name = "NAME|latest", default_value = "latest")]
    pub snapshot: String,
    /// Also start an etcd on the backup; the etcd program must be on the agent's machine
    #[arg(long)]
    pub boot: bool,
    /// How long to wait for the result
    #[arg(long, default_value = "2h", value_name = "DURATION", value_parser = duration::parse)]
    pub timeout: Duration,
    /// Output format: table, wide, name, yaml, json or jsonpath={.spec.FIELD}; all but table print the Verification
    /// resource
    #[arg(short, long, default_value = "table", value_name = "FORMAT")]
    pub output: Format,
}

/// The shells that have a completion script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
}
