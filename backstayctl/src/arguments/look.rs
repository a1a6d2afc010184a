//! Arguments and help of the commands that read: describe, backups, runs, agents, version; and of how a list is shown.

use clap::Args;

use crate::output::{Format, View};

pub const DESCRIBE_HELP: &str = "\
Prints every field of a resource in a readable form. For a cluster, it also
prints the schedule, the last backup, the last verification, the agents and the
latest runs. Secrets are hidden. An agent is found by its UUID, or by the name
of its etcd member or its host.

Examples:
  backstayctl describe cluster talos-default
  backstayctl describe restore/talos-default
  backstayctl describe agent cp-1";

pub const BACKUPS_HELP: &str = "\
The newest backup comes first. Pass its NAME to `restore --snapshot` or `verify
--snapshot`. CHECKED shows what was checked before the backup became visible:
  checksum      the SHA-256 of the database matches the one that etcd sent
  pages         the same, and every page of the database is intact
  pages+member  the same, and another member holds the same data
  damaged       `backstayctl verify` found that the stored backup is damaged

Examples:
  backstayctl backups
  backstayctl backups talos-default
  backstayctl backups talos-default -o json";

pub const AGENTS_HELP: &str = "\
MACHINE is the name of the etcd member, with the host name if that differs. If
no name is known, it is the first eight characters of the machine's UUID. Use -o
wide to see whole UUIDs.

Examples:
  backstayctl agents
  backstayctl agents talos-default -o wide";

pub const RUNS_HELP: &str = "\
The latest attempt comes first. Use -o wide to see whole UUIDs.

Examples:
  backstayctl runs
  backstayctl runs talos-default
  backstayctl runs talos-default -o jsonpath='{.spec.error}'";

pub const VERSION_HELP: &str = "\
If no coordinator answers, only the version of this program is printed.

Examples:
  backstayctl version
  backstayctl version --client";

/// How a list of resources is shown.
#[derive(Debug, Clone, Args)]
pub struct Shown {
    /// Output format: table, wide, name, yaml, json or jsonpath={.spec.FIELD}
    #[arg(short, long, default_value = "table", value_name = "FORMAT")]
    pub output: Format,
    /// Print tables without their heading
    #[arg(long)]
    pub no_headers: bool,
}

impl Shown {
    /// The same for an output that is a terminal, or none.
    pub fn view(self, is_terminal: bool) -> View {
        View { format: self.output, headings: !self.no_headers, fits: is_terminal }
    }
}

#[derive(Debug, Args)]
pub struct Describe {
    /// Resource type, such as cluster, or TYPE/ID
    #[arg(value_name = "TYPE")]
    pub kind: String,
    /// ID of one resource [default: all of them]
    #[arg(default_value = "", hide_default_value = true)]
    pub id: String,
}

#[derive(Debug, Args)]
pub struct OfCluster {
    /// Show only this cluster
    #[arg(default_value = "", hide_default_value = true)]
    pub cluster: String,
    #[command(flatten)]
    pub shown: Shown,
}

#[derive(Debug, Args)]
pub struct Version {
    /// Print the version of this program only
    #[arg(long)]
    pub client: bool,
    /// Output format: table, yaml or json
    #[arg(short, long, default_value = "table", value_name = "FORMAT")]
    pub output: super::operate::Form,
}
