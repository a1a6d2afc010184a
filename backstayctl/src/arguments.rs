//! The grammar of the command line. [`super::run`] carries the commands out.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use backstay_daemon::help;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use super::restore::arguments::{self as restore, List, Restore};
use super::restore::merge::{self as restore_merge, Merge};
use super::restore::ways::{self, Way};

pub mod config;
pub mod look;
pub mod operate;
pub mod tips;
use config::ConfigCommand;
pub use look::{Describe, OfCluster, Shown, Version};
pub use operate::{Backup, Schedule, Shell, Status, Verify};

/// Back up, verify and restore etcd for a fleet of Kubernetes clusters.
#[derive(Debug, Parser)]
#[command(
    name = "backstayctl",
    version,
    arg_required_else_help = true,
    after_help = "\
Examples:
  backstayctl get etcdbackupoverallstatus
  backstayctl apply -f etcd-backup-s3-conf.yaml
  backstayctl get etcdbackup --selector omni.sidero.dev/cluster=talos-default
  backstayctl cluster template -f etcd-backup.yaml diff
  backstayctl backup talos-default --wait
  backstayctl status
  backstayctl list --store s3://etcd-backups

Exit codes:
  0    success
  1    error; the message is on stderr
  2    invalid command line
  3    `status` or `cluster template status` found something that is not ok,
       `verify` found damage, or `merge` could not copy everything
  130  Ctrl-C ended a command that followed a backup, a verification or a
       restore, which goes on

Output is coloured only on a terminal, and never if NO_COLOR is set."
)]
pub struct Arguments {
    #[command(flatten)]
    pub connection: Connection,
    /// The named connection to use; see `backstayctl config --help`
    #[arg(long, global = true, value_name = "CONTEXT", help_heading = "Connection")]
    pub context: Option<String>,
    #[command(subcommand)]
    pub command: Command,
}

impl Arguments {
    /// Reads a command line, the program's name first.
    ///
    /// # Errors
    /// The command line is invalid, or asks for help.
    pub fn read(words: impl IntoIterator<Item = impl Into<OsString>>) -> Result<Self, clap::Error> {
        let words: Vec<OsString> = words.into_iter().map(Into::into).collect();
        let mut program = Self::program(Way::of(&words));
        let matches = program.try_get_matches_from_mut(words)?;
        ways::check(&mut program, &matches)?;
        let mut arguments = Self::from_arg_matches(&matches).map_err(|error| error.format(&mut program))?;
        arguments.connection.note_environment(&matches);
        Ok(arguments)
    }

    /// The grammar, with the help of one way to restore. Examples stay whole however narrow a terminal is.
    pub fn program(way: Way) -> clap::Command {
        help::unwrapped(ways::command(Self::command(), way))
    }
}

/// How to connect to NATS. Each flag (and the password) can also be set in the environment, as BACKSTAY_NATS__….
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Connection")]
pub struct Connection {
    /// URL of the NATS server; separate several with commas [default: nats://127.0.0.1:4222]
    #[arg(long, global = true, env = "BACKSTAY_NATS_URL", hide_env_values = true, value_name = "URL")]
    pub nats: Option<String>,
    /// The same, if it comes from the environment and no flag is given.
    #[arg(skip)]
    pub nats_of_environment: Option<String>,
    /// NATS user; pass its password with --nats-password-file or BACKSTAY_NATS__PASSWORD
    #[arg(long, global = true, value_name = "NAME")]
    pub nats_user: Option<String>,
    /// File that contains the NATS password
    #[arg(long, global = true, value_name = "FILE")]
    pub nats_password_file: Option<String>,
    /// NATS credentials file (.creds)
    #[arg(long, global = true, value_name = "FILE")]
    pub nats_credentials: Option<String>,
    /// File that contains an nkey seed
    #[arg(long, global = true, value_name = "FILE")]
    pub nats_nkey: Option<String>,
    /// CA certificate to verify the NATS server with
    #[arg(long, global = true, value_name = "FILE")]
    pub nats_ca: Option<String>,
    /// Client certificate for NATS
    #[arg(long, global = true, value_name = "FILE")]
    pub nats_cert: Option<String>,
    /// Private key of the client certificate
    #[arg(long, global = true, value_name = "FILE")]
    pub nats_key: Option<String>,
}

impl Connection {
    /// Keeps a URL that is the environment's apart from one that a flag gives. An empty variable gives none.
    pub fn note_environment(&mut self, matches: &ArgMatches) {
        if matches.value_source("nats") == Some(ValueSource::EnvVariable) {
            self.nats_of_environment = self.nats.take().filter(|url| !url.is_empty());
        }
    }

    /// The flags that were given, under the names of the `[nats]` settings.
    pub fn settings(self) -> BTreeMap<String, String> {
        let all = [
            ("url", self.nats),
            ("user", self.nats_user),
            ("password_file", self.nats_password_file),
            ("credentials", self.nats_credentials),
            ("nkey", self.nats_nkey),
            ("ca", self.nats_ca),
            ("cert", self.nats_cert),
            ("key", self.nats_key),
        ];
        all.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value.filter(|v| !v.is_empty())?))).collect()
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show resources of one type
    #[command(
        visible_alias = "g",
        after_help = "\
TYPE can be a plural, singular, full or short name, in upper or lower case; `get
types` lists all of them.

Examples:
  backstayctl get types
  backstayctl get cluster/talos-default
  backstayctl get etcdbackupoverallstatus
  backstayctl get etcdbackupstatus talos-default -o yaml
  backstayctl get etcdbackup --selector omni.sidero.dev/cluster=talos-default
  backstayctl get etcdbackupstatus talos-default -o jsonpath='{.spec.error}'
  backstayctl get backupruns --watch"
    )]
    Get(Get),
    /// Show all details of a resource
    #[command(after_help = look::DESCRIBE_HELP)]
    Describe(Describe),
    /// Create or update resources from files
    #[command(after_help = "\
All documents are validated before the first one is applied. Nothing is printed
on success.

Examples:
  backstayctl apply -f etcd-backup-s3-conf.yaml
  backstayctl apply -f folder/ --dry-run
  backstayctl get cluster talos-default -o yaml | sed 's/seconds: 3600/seconds: 7200/' | backstayctl apply -f -")]
    Apply(Apply),
    /// Delete resources of one type
    #[command(
        visible_alias = "d",
        after_help = "\
To delete a cluster you must type its name, or pass --yes. A cluster with
connected agents is not deleted: they would register it again, without its
schedule. Its backups stay in the store.

Examples:
  backstayctl delete etcdbackups3config etcd-backup-s3-conf
  backstayctl delete cluster talos-default --dry-run"
    )]
    Delete(Delete),
    /// Show the health of each cluster's backups, worst first
    #[command(after_help = operate::STATUS_HELP)]
    Status(Status),
    /// Back up a cluster now
    #[command(after_help = operate::BACKUP_HELP)]
    Backup(Backup),
    /// Show or set how often a cluster is backed up
    #[command(after_help = operate::SCHEDULE_HELP)]
    Schedule(Schedule),
    /// Show the backups in the store, newest first
    #[command(after_help = look::BACKUPS_HELP)]
    Backups(OfCluster),
    /// Show the connected agents
    #[command(after_help = look::AGENTS_HELP)]
    Agents(OfCluster),
    /// Show the latest backup attempts
    #[command(after_help = look::RUNS_HELP)]
    Runs(OfCluster),
    /// Restore a cluster on all its machines, or restore a backup into a data directory
    #[command(after_help = restore::RESTORE_HELP)]
    Restore(Box<Restore>),
    /// Verify a stored backup
    #[command(after_help = operate::VERIFY_HELP)]
    Verify(Verify),
    /// Show the clusters and backups in a store
    #[command(after_help = restore::LIST_HELP)]
    List(List),
    /// Merge a cluster's backups that are stored under several UUIDs
    #[command(after_help = restore_merge::MERGE_HELP)]
    Merge(Box<Merge>),
    /// Work with clusters
    #[command(
        visible_alias = "c",
        after_help = "\
Examples:
  backstayctl cluster template -f etcd-backup.yaml diff"
    )]
    Cluster {
        #[command(subcommand)]
        command: ClusterCommand,
    },
    /// Work with contexts: named connections
    #[command(after_help = config::CONFIG_HELP)]
    Config {
        #[command(subcommand)]
        command: config::ConfigCommand,
    },
    /// Print the versions of this program, the coordinator and the agents
    #[command(after_help = look::VERSION_HELP)]
    Version(Version),
    /// Print the completion script for a shell
    #[command(after_help = "\
The script calls backstayctl, so it also completes clusters, resources,
snapshots and contexts. Names that only the coordinator knows are completed if
it answers. For zsh, the directory of the script must be in $fpath before
compinit runs.

Examples:
  backstayctl completion bash > /etc/bash_completion.d/backstayctl
  backstayctl completion zsh > ~/.zfunc/_backstayctl
  backstayctl completion fish > ~/.config/fish/completions/backstayctl.fish")]
    Completion {
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Write the man pages to a directory
    #[command(after_help = "Examples:\n  backstayctl man /usr/local/share/man/man1")]
    Man {
        /// Existing directory to write to
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
}

impl Command {
    /// Whether the command only prints something: if its output cannot be written, the command has failed.
    pub fn answers(&self) -> bool {
        match self {
            Self::Get(_)
            | Self::Describe(_)
            | Self::Status(_)
            | Self::Backups(_)
            | Self::Version(_)
            | Self::Agents(_)
            | Self::Runs(_)
            | Self::List(_)
            | Self::Completion { .. } => true,
            Self::Apply(Apply { mode, .. }) => mode.dry_run,
            Self::Schedule(schedule) => schedule.interval.is_none(),
            Self::Restore(restore) => restore.dry_run,
            Self::Config { command: ConfigCommand::GetContexts { .. } | ConfigCommand::CurrentContext } => true,
            Self::Merge(merge) => merge.dry_run,
            Self::Cluster { command: ClusterCommand::Template(template) } => match template.verb {
                TemplateVerb::Sync(mode) | TemplateVerb::Delete(mode) => mode.dry_run,
                TemplateVerb::Validate
                | TemplateVerb::Render
                | TemplateVerb::Diff
                | TemplateVerb::Status
                | TemplateVerb::Export { .. } => true,
            },
            Self::Delete(_) | Self::Backup(_) | Self::Verify(_) | Self::Config { .. } | Self::Man { .. } => false,
        }
    }
}

#[derive(Debug, Args)]
pub struct Get {
    /// Resource type, such as etcdbackup, or TYPE/ID; `types` lists all types
    #[arg(value_name = "TYPE")]
    pub kind: String,
    /// ID of one resource [default: all of them]
    #[arg(default_value = "", hide_default_value = true)]
    pub id: String,
    /// Namespace, if not the default one of the type
    #[arg(short, long, default_value = "", hide_default_value = true)]
    pub namespace: String,
    #[command(flatten)]
    pub shown: Shown,
    /// Label selector: k, !k, k=v, k!=v, k in (a,b), k notin (a,b); a comma means AND
    #[arg(short = 'l', long, default_value = "", hide_default_value = true)]
    pub selector: String,
    /// Keep running and print each change: + created, ~ updated, - deleted
    #[arg(short, long)]
    pub watch: bool,
}

#[derive(Debug, Args)]
pub struct Apply {
    /// File, directory (its .yaml and .yml files in sorted order) or - for stdin
    #[arg(short, long = "file", required = true, value_name = "FILE|DIR|-")]
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    pub mode: ModeArgs,
}

#[derive(Debug, Clone, Copy, Args)]
pub struct ModeArgs {
    /// Print each step and its diff
    #[arg(short, long)]
    pub verbose: bool,
    /// Show what would change, without changing anything
    #[arg(short, long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub struct Delete {
    /// Resource type, such as etcdbackups3config
    #[arg(value_name = "TYPE")]
    pub kind: String,
    /// IDs of the resources to delete
    #[arg(required = true, value_name = "ID")]
    pub ids: Vec<String>,
    /// Namespace, if not the default one of the type
    #[arg(short, long, default_value = "", hide_default_value = true)]
    pub namespace: String,
    /// Skip the confirmation before a cluster is deleted
    #[arg(short, long)]
    pub yes: bool,
    /// Show what would be deleted, without deleting anything
    #[arg(short, long)]
    pub dry_run: bool,
    /// Delete a cluster even if its agents are connected
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Work with cluster templates
    #[command(
        visible_alias = "t",
        after_help = "\
-f can stand before or after the subcommand; - means stdin.

Examples:
  backstayctl cluster template validate -f etcd-backup.yaml
  backstayctl cluster template -f etcd-backup.yaml diff
  backstayctl cluster template -f etcd-backup.yaml sync -v"
    )]
    Template(Template),
}

#[derive(Debug, Args)]
pub struct Template {
    /// Template file, or - for stdin
    // Not `required`: clap allows that to no argument that may stand on either side of the verb.
    #[arg(short, long, global = true, value_name = "FILE|-")]
    pub file: Option<PathBuf>,
    #[command(subcommand)]
    pub verb: TemplateVerb,
}

#[derive(Debug, Clone, Subcommand)]
pub enum TemplateVerb {
    /// Validate the template, without contacting the coordinator
    #[command(after_help = "Examples:\n  backstayctl cluster template validate -f etcd-backup.yaml")]
    Validate,
    /// Print the resources that the template defines, without contacting the coordinator
    #[command(after_help = "Examples:\n  backstayctl cluster template render -f etcd-backup.yaml")]
    Render,
    /// Show what `sync` would change
    #[command(after_help = "Examples:\n  backstayctl cluster template diff -f etcd-backup.yaml")]
    Diff,
    /// Create, update and delete resources to match the template
    #[command(after_help = "\
Examples:
  backstayctl cluster template sync -f etcd-backup.yaml
  backstayctl cluster template sync -f etcd-backup.yaml --dry-run -v")]
    Sync(ModeArgs),
    /// Show whether each resource matches the template
    #[command(after_help = "\
Exit codes:
  0  everything is in sync
  1  error; the message is on stderr
  3  a resource differs, is missing, or exists without being in the template

Examples:
  backstayctl cluster template status -f etcd-backup.yaml")]
    Status,
    /// Print a template for an existing cluster
    #[command(after_help = "\
Settings that a template cannot express are listed on stderr.

Examples:
  backstayctl cluster template export --cluster talos-default > etcd-backup.yaml")]
    Export {
        /// Name of the cluster
        #[arg(short, long, value_name = "NAME")]
        cluster: String,
    },
    /// Delete the template's cluster, with its machine sets and machines
    #[command(after_help = "\
Backups stay in the store.

Examples:
  backstayctl cluster template delete -f etcd-backup.yaml --dry-run
  backstayctl cluster template delete -f etcd-backup.yaml")]
    Delete(ModeArgs),
}

#[cfg(test)]
mod tests;
