//! Arguments and help of the commands that read: describe, backups, runs, agents, version; and of how a list is shown.

use clap::Args;

use crate::output::{Format, View};

pub const DESCRIBE_HELP: &str = "\
Prints every field of a resource in a form for people. For a cluster, also its
schedule, its last backup, its last verification, its agents and its last runs.
Secrets are not shown.

Examples:
  backstayctl describe cluster talos-default
  backstayctl describe restore/talos-default
  backstayctl describe agent 27c16241-96bf-4f17-9579-ea3a6c4a3ca8";

pub const BACKUPS_HELP: &str = "\
The newest comes first. NAME is what `restore --snapshot` and `verify --snapshot`
take. PROVEN says what was checked before the backup became visible:
  checksum      the SHA-256 of the database is the one that etcd sent
  pages         also every page of the database
  pages+member  also another member, which held the same data

Examples:
  backstayctl backups
  backstayctl backups talos-default
  backstayctl backups talos-default -o json";

pub const AGENTS_HELP: &str = "\
MACHINE is the name of the etcd member, with the host name where that is another
one; the beginning of the machine's UUID where no name is known. Use -o wide for
whole UUIDs.

Examples:
  backstayctl agents
  backstayctl agents talos-default -o wide";

pub const RUNS_HELP: &str = "\
The latest comes first. Use -o wide for whole UUIDs.

Examples:
  backstayctl runs
  backstayctl runs talos-default
  backstayctl runs talos-default -o jsonpath='{.spec.error}'";

pub const VERSION_HELP: &str = "\
Where no coordinator answers, only the version of this program is printed.

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

impl From<Shown> for View {
    fn from(shown: Shown) -> Self {
        Self { format: shown.output, headings: !shown.no_headers }
    }
}

#[derive(Debug, Args)]
pub struct Describe {
    /// The type, such as cluster, or TYPE/ID
    #[arg(value_name = "TYPE")]
    pub kind: String,
    /// The resource; without it, all of the type
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
