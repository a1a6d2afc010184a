//! The words of the commands for daily work: status, backup, agents, runs.

use std::time::Duration;

use backstay_protocol::duration;
use clap::{Args, ValueEnum};

use crate::output::Format;

pub const STATUS_HELP: &str = "\
What holds for each cluster, the worst of it, with the reason and the command to
run next:
  no storage   backups have nowhere to go
  no agent     no agent of it is connected
  damaged      a proof found a backup damaged, and no later one is proven
  never        it has no backup
  failing      the latest attempt failed
  clock        its last backup lies in the future: a clock is, or was, wrong
  stale        the last good backup is older than the interval and a grace
  restoring    a restore of it is under way
  member down  an agent is connected, and its etcd does not answer
  2/3 agents   etcd has more members than there are agents
  unproven     a proof could not be tried
  no schedule  no interval is set; fine where `enabled: false` says so
  ok           none of these

Exit codes:
  0  every cluster is ok, and so are the clocks that are known
  1  it could not be found out
  3  a cluster or a clock is not ok, or no cluster is known

Examples:
  backstayctl status
  backstayctl status talos-default
  backstayctl status --watch
  backstayctl status --grace 30m -o json";

pub const SCHEDULE_HELP: &str = "\
Shows a cluster's backup schedule, or changes it. Only the schedule of the cluster's
resource is changed; everything else in it stays. `off` keeps the interval, for when
the schedule is turned on again.

Examples:
  backstayctl schedule talos-default
  backstayctl schedule talos-default 1h
  backstayctl schedule talos-default off";

pub const BACKUP_HELP: &str = "\
Asks for a backup as of now. With --wait it is followed to its end: exit code 0
means that it is in the store, proven. A bar shows how far it is; where stderr
is no terminal, a line for each change does.

Interrupting the command does not stop the backup: Ctrl-C ends only this command,
with exit code 130.

Examples:
  backstayctl backup talos-default
  backstayctl backup talos-default --wait --timeout 30m";

pub const VERIFY_HELP: &str = "\
One of the cluster's agents fetches the backup, opens it, compares every digest
and looks at every page. With --boot it also restores it into a scratch folder,
starts an etcd on that (on loopback ports), compares HashKV and reads keys back.
`backstayctl status` shows when each cluster was last proven, and how. A proof
that fails stands there until that backup or a later one is proven.

Examples:
  backstayctl verify talos-default
  backstayctl verify talos-default --snapshot FFFFFFFF9A99FBF6.snapshot --boot
  backstayctl verify talos-default -o json";

pub const AGENTS_HELP: &str = "\
Examples:
  backstayctl agents
  backstayctl agents talos-default -o yaml";

pub const RUNS_HELP: &str = "\
The latest comes first.

Examples:
  backstayctl runs talos-default
  backstayctl runs talos-default -o jsonpath='{.spec.error}'";

#[derive(Debug, Args)]
pub struct Status {
    /// These clusters only
    #[arg(value_name = "CLUSTER")]
    pub clusters: Vec<String>,
    /// How much older than its interval a backup may be [default: a tenth of the interval, at least 5m]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub grace: Option<Duration>,
    /// table, yaml or json
    #[arg(short, long, default_value = "table", value_name = "FORMAT")]
    pub output: Form,
    /// Keep watching: redraw on a terminal, otherwise print again on each change
    #[arg(short, long)]
    pub watch: bool,
}

#[derive(Debug, Args)]
pub struct Schedule {
    /// The cluster's name
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
            text => duration::parse(text).map(Self::Every).map_err(|error| error.to_string()),
        }
    }
}

/// The forms of a text that is no list of resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    #[default]
    Table,
    Yaml,
    Json,
}

impl std::str::FromStr for Form {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "table" => Ok(Self::Table),
            "yaml" => Ok(Self::Yaml),
            "json" => Ok(Self::Json),
            _ => Err(format!("output format {text:?} is not supported: use table, yaml or json")),
        }
    }
}

#[derive(Debug, Args)]
pub struct Backup {
    /// The cluster's name
    #[arg(value_name = "CLUSTER")]
    pub cluster: String,
    /// Follow the backup to its end
    #[arg(short, long)]
    pub wait: bool,
    /// How long to wait for its end
    #[arg(long, default_value = "1h", value_name = "DURATION", value_parser = duration::parse, requires = "wait")]
    pub timeout: Duration,
}

#[derive(Debug, Args)]
pub struct Verify {
    /// The cluster's name
    #[arg(value_name = "CLUSTER")]
    pub cluster: String,
    /// The backup: its name, or `latest`
    #[arg(long, value_name = "NAME|latest", default_value = "latest")]
    pub snapshot: String,
    /// Also start an etcd on it; its agent needs the program
    #[arg(long)]
    pub boot: bool,
    /// How long to follow it
    #[arg(long, default_value = "2h", value_name = "DURATION", value_parser = duration::parse)]
    pub timeout: Duration,
    /// table, yaml, json, or jsonpath={.spec.FIELD}; other than table it is the Verification resource
    #[arg(short, long, default_value = "table", value_name = "FORMAT")]
    pub output: Format,
}

#[derive(Debug, Args)]
pub struct Agents {
    /// Those of this cluster only
    #[arg(default_value = "", hide_default_value = true)]
    pub cluster: String,
    /// table, yaml, json, or jsonpath={.spec.FIELD}
    #[arg(short, long, default_value = "table", value_name = "FORMAT")]
    pub output: Format,
}

#[derive(Debug, Args)]
pub struct Runs {
    /// The cluster's name
    #[arg(value_name = "CLUSTER")]
    pub cluster: String,
    /// table, yaml, json, or jsonpath={.spec.FIELD}
    #[arg(short, long, default_value = "table", value_name = "FORMAT")]
    pub output: Format,
}

/// The shells that completions are made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
}
