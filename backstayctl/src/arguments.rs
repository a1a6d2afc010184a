//! The grammar of the command line. What the words mean is in [`super::run`].

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use backstay_daemon::help;
use clap::parser::ValueSource;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use super::output::Format;
use super::restore::arguments::{self as restore, List, Restore};
use super::restore::merge::{self as restore_merge, Merge};
use super::restore::ways::{self, Way};

pub mod config;
pub mod operate;
pub mod tips;
use config::ConfigCommand;
pub use operate::{Agents, Backup, Runs, Schedule, Shell, Status, Verify};

/// Back up etcd for a fleet of Kubernetes clusters: look at it, change it.
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
  0  done
  1  an error, which is printed on stderr
  2  the command line is wrong
  3  the answer of `status` or of `cluster template status` is that not all is well

Colour is used on a terminal only, and not where NO_COLOR is set."
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
    /// It is wrong, or asks for help.
    pub fn read(words: impl IntoIterator<Item = impl Into<OsString>>) -> Result<Self, clap::Error> {
        let words: Vec<OsString> = words.into_iter().map(Into::into).collect();
        let mut program = Self::program(Way::of(&words));
        let matches = program.try_get_matches_from_mut(words)?;
        ways::check(&mut program, &matches)?;
        let mut arguments = Self::from_arg_matches(&matches).map_err(|error| error.format(&mut program))?;
        if matches.value_source("nats") == Some(ValueSource::EnvVariable) {
            arguments.connection.nats_of_environment = arguments.connection.nats.take();
        }
        Ok(arguments)
    }

    /// The grammar, with the help of one way to restore. Examples stay whole however narrow a terminal is.
    pub fn program(way: Way) -> clap::Command {
        help::unwrapped(ways::command(Self::command(), way))
    }
}

/// How to reach NATS. Each of these can also be set as BACKSTAY_NATS__… (BACKSTAY_NATS__PASSWORD too).
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Connection")]
pub struct Connection {
    /// Where NATS is; several with commas between [default: nats://127.0.0.1:4222]
    #[arg(long, global = true, env = "BACKSTAY_NATS_URL", hide_env_values = true, value_name = "URL")]
    pub nats: Option<String>,
    /// The same, where it comes from the environment and no flag says otherwise.
    #[arg(skip)]
    pub nats_of_environment: Option<String>,
    /// The user; its password comes from --nats-password-file or BACKSTAY_NATS__PASSWORD
    #[arg(long, global = true, value_name = "NAME")]
    pub nats_user: Option<String>,
    /// A file that holds the password
    #[arg(long, global = true, value_name = "FILE")]
    pub nats_password_file: Option<String>,
    /// A credentials file
    #[arg(long, global = true, value_name = "FILE")]
    pub nats_credentials: Option<String>,
    /// A file that holds an nkey seed
    #[arg(long, global = true, value_name = "FILE")]
    pub nats_nkey: Option<String>,
    /// The CA to trust
    #[arg(long, global = true, value_name = "FILE")]
    pub nats_ca: Option<String>,
    /// The client's certificate
    #[arg(long, global = true, value_name = "FILE")]
    pub nats_cert: Option<String>,
    /// The key of that certificate
    #[arg(long, global = true, value_name = "FILE")]
    pub nats_key: Option<String>,
}

impl Connection {
    /// What was given, under the names of the `[nats]` settings.
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
A type may be given by its plural, its singular, its full name or a short form, in any case.

Examples:
  backstayctl get etcdbackupoverallstatus
  backstayctl get etcdbackupstatus talos-default -o yaml
  backstayctl get etcdbackup --selector omni.sidero.dev/cluster=talos-default
  backstayctl get etcdbackupstatus talos-default -o jsonpath='{.spec.error}'
  backstayctl get backupruns --watch"
    )]
    Get(Get),
    /// Create resources, or make them what a file says
    #[command(after_help = "\
All documents are read and checked before the first is applied. Success prints nothing.

Examples:
  backstayctl apply -f etcd-backup-s3-conf.yaml
  backstayctl apply -f folder/ --dry-run
  backstayctl get cluster talos-default -o yaml | sed 's/seconds: 3600/seconds: 7200/' | backstayctl apply -f -")]
    Apply(Apply),
    /// Delete resources of one type
    #[command(
        visible_alias = "d",
        after_help = "\
A cluster is deleted only after its name was typed, or with --yes, and not while agents of it are
connected: they would register it again, without its schedule. Its backups stay in the store.

Examples:
  backstayctl delete etcdbackups3config etcd-backup-s3-conf
  backstayctl delete cluster talos-default --dry-run"
    )]
    Delete(Delete),
    /// Show how each cluster's backups stand, worst first
    #[command(after_help = operate::STATUS_HELP)]
    Status(Status),
    /// Back up a cluster now
    #[command(after_help = operate::BACKUP_HELP)]
    Backup(Backup),
    /// Show or set how often a cluster is backed up
    #[command(after_help = operate::SCHEDULE_HELP)]
    Schedule(Schedule),
    /// Show the agents that are connected
    #[command(after_help = operate::AGENTS_HELP)]
    Agents(Agents),
    /// Show what became of the latest attempts at a cluster's backups
    #[command(after_help = operate::RUNS_HELP)]
    Runs(Runs),
    /// Restore a cluster on all its machines, or make a data folder of a backup
    #[command(after_help = restore::RESTORE_HELP)]
    Restore(Box<Restore>),
    /// Prove a backup where it rests
    #[command(after_help = operate::VERIFY_HELP)]
    Verify(Verify),
    /// Show the clusters and backups in a store
    #[command(after_help = restore::LIST_HELP)]
    List(List),
    /// Put several series of a cluster's backups in a store together
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
    /// Print the completion script for a shell
    #[command(after_help = "\
The script asks backstayctl itself, so it also completes clusters, resources, snapshots
and contexts. What the coordinator knows is completed where one answers.

Examples:
  backstayctl completion bash > /etc/bash_completion.d/backstayctl
  backstayctl completion zsh > ~/.zfunc/_backstayctl
  backstayctl completion fish > ~/.config/fish/completions/backstayctl.fish")]
    Completion {
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Write the manual pages into a folder
    #[command(hide = true, after_help = "Examples:\n  backstayctl man /usr/local/share/man/man1")]
    Man {
        /// An existing folder
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
}

impl Command {
    /// Whether what it prints is all that it is for: nothing is done where nobody can read it.
    pub fn answers(&self) -> bool {
        match self {
            Self::Get(_)
            | Self::Status(_)
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
    /// The type, such as etcdbackup
    #[arg(value_name = "TYPE")]
    pub kind: String,
    /// One resource; without it, all
    #[arg(default_value = "", hide_default_value = true)]
    pub id: String,
    /// The namespace, where it is not the type's own
    #[arg(short, long, default_value = "", hide_default_value = true)]
    pub namespace: String,
    /// table, yaml, json, or jsonpath={.spec.FIELD}
    #[arg(short, long, default_value = "table", value_name = "FORMAT")]
    pub output: Format,
    /// Labels to select by: k, !k, k=v, k!=v, k in (a,b), k notin (a,b); a comma is AND
    #[arg(short = 'l', long, default_value = "", hide_default_value = true)]
    pub selector: String,
    /// Go on and print each change: + is new, ~ changed, - gone
    #[arg(short, long)]
    pub watch: bool,
}

#[derive(Debug, Args)]
pub struct Apply {
    /// A file, a folder (its .yaml and .yml files, sorted) or - for standard input
    #[arg(short, long = "file", required = true, value_name = "FILE|DIR|-")]
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    pub mode: ModeArgs,
}

#[derive(Debug, Clone, Copy, Args)]
pub struct ModeArgs {
    /// Say each step and what it changes
    #[arg(short, long)]
    pub verbose: bool,
    /// Change nothing
    #[arg(short, long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub struct Delete {
    /// The type, such as etcdbackups3config
    #[arg(value_name = "TYPE")]
    pub kind: String,
    /// The resources
    #[arg(required = true, value_name = "ID")]
    pub ids: Vec<String>,
    /// The namespace, where it is not the type's own
    #[arg(short, long, default_value = "", hide_default_value = true)]
    pub namespace: String,
    /// Do not ask before a cluster is deleted
    #[arg(short, long)]
    pub yes: bool,
    /// Say what would be deleted, and change nothing
    #[arg(short, long)]
    pub dry_run: bool,
    /// Delete a cluster although agents of it are connected
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Work with cluster templates
    #[command(
        visible_alias = "t",
        after_help = "\
The file may be named before or after the verb; - is standard input.

Examples:
  backstayctl cluster template validate -f etcd-backup.yaml
  backstayctl cluster template -f etcd-backup.yaml diff
  backstayctl cluster template -f etcd-backup.yaml sync -v"
    )]
    Template(Template),
}

#[derive(Debug, Args)]
pub struct Template {
    /// The template
    // Not `required`: clap allows that to no argument that may stand on either side of the verb.
    #[arg(short, long, global = true, value_name = "FILE|-")]
    pub file: Option<PathBuf>,
    #[command(subcommand)]
    pub verb: TemplateVerb,
}

#[derive(Debug, Clone, Subcommand)]
pub enum TemplateVerb {
    /// Check the template, without asking anybody
    #[command(after_help = "Examples:\n  backstayctl cluster template validate -f etcd-backup.yaml")]
    Validate,
    /// Print the resources that the template stands for, without asking anybody
    #[command(after_help = "Examples:\n  backstayctl cluster template render -f etcd-backup.yaml")]
    Render,
    /// Print what a sync would change
    #[command(after_help = "Examples:\n  backstayctl cluster template diff -f etcd-backup.yaml")]
    Diff,
    /// Create, update and destroy resources until they are what the template says
    #[command(after_help = "\
Examples:
  backstayctl cluster template sync -f etcd-backup.yaml
  backstayctl cluster template sync -f etcd-backup.yaml --dry-run -v")]
    Sync(ModeArgs),
    /// Say of each resource whether it is what the template says
    #[command(after_help = "\
Exit code 0 means that all are in sync; 3 that one differs, is missing, or is
there and not in the template.

Examples:
  backstayctl cluster template status -f etcd-backup.yaml")]
    Status,
    /// Print the template of a cluster
    #[command(after_help = "\
What a template cannot say is noted on stderr.

Examples:
  backstayctl cluster template export --cluster talos-default > etcd-backup.yaml")]
    Export {
        /// The cluster's name
        #[arg(short, long, value_name = "NAME")]
        cluster: String,
    },
    /// Destroy the machines and machine sets of the template's cluster, then the cluster
    #[command(after_help = "\
Backups stay in the store.

Examples:
  backstayctl cluster template delete -f etcd-backup.yaml --dry-run
  backstayctl cluster template delete -f etcd-backup.yaml")]
    Delete(ModeArgs),
}

#[cfg(test)]
mod tests;
