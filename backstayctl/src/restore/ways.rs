//! The two ways to restore: a cluster on its machines, or from a store into a data folder on this machine. Which one was
//! requested, which flags belong to it, and the help of each. Pure.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};

use super::arguments::{CLUSTER_HELP, CLUSTER_NAME, STORE_HELP};

const RESTORE: &str = "restore";

/// A way to restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Cluster,
    Store,
}

impl Way {
    /// The way that a command line selects, or asks help about. Without `--store`, it is that of a cluster.
    pub fn of(words: &[OsString]) -> Self {
        let mut words = words.iter().take_while(|word| *word != "--").map(|word| word.as_encoded_bytes());
        match words.any(|word| word == b"--store" || word.starts_with(b"--store=")) {
            true => Self::Store,
            false => Self::Cluster,
        }
    }

    fn owns(self, id: &str) -> bool {
        let own: &[&str] = match self {
            Self::Cluster => &["cluster", "data_of_another_cluster", "yes", "timeout"],
            Self::Store => &[
                "store",
                CLUSTER_NAME,
                "cluster_uuid",
                "identity",
                "signers",
                "allow_unsigned",
                "allow_unencrypted",
                "data_dir",
                "name",
                "initial_cluster",
                "initial_advertise_peer_urls",
                "initial_cluster_token",
                "mark_compacted",
                "remove_alarms",
                "remove_auth",
                "defragment",
                "region",
                "endpoint",
                "s3_ca",
                "s3_addressing",
            ],
        };
        // Nobody is asked over NATS on the way from a store.
        own.contains(&id) || self == Self::Cluster && (id.starts_with("nats") || id == "context")
    }

    fn other(self) -> Self {
        match self {
            Self::Cluster => Self::Store,
            Self::Store => Self::Cluster,
        }
    }

    fn line(self) -> &'static str {
        match self {
            Self::Cluster => "`backstayctl restore CLUSTER` (restores a cluster on all its machines)",
            Self::Store => {
                "`backstayctl restore --store URL` (restores a backup into a data directory on this \
                machine)"
            }
        }
    }

    fn usage(self) -> &'static str {
        match self {
            Self::Cluster => "backstayctl restore [OPTIONS] <CLUSTER> <--snapshot <NAME|latest>|--before <TIME>>",
            Self::Store => {
                "backstayctl restore [OPTIONS] --store <URL> <--snapshot <NAME|latest>|--before <TIME>> --data-dir <DIR>"
            }
        }
    }

    fn about(self) -> &'static str {
        match self {
            Self::Cluster => "Restore a cluster on all its machines",
            Self::Store => "Restore a backup from a store into a data directory on this machine",
        }
    }

    fn help(self) -> &'static str {
        match self {
            Self::Cluster => CLUSTER_HELP,
            Self::Store => STORE_HELP,
        }
    }
}

/// The grammar with the help of this way in `restore`: the other way's flags are understood, but not shown.
pub fn command(program: Command, way: Way) -> Command {
    // What belongs to all commands is added when the program is built: hidden here, it is hidden for this command alone.
    let connection: Vec<Arg> = match way {
        Way::Cluster => Vec::new(),
        Way::Store => {
            let global =
                program.get_arguments().filter(|arg| arg.is_global_set() && way.other().owns(arg.get_id().as_str()));
            global.map(|arg| arg.clone().hide(true)).collect()
        }
    };
    program.mut_subcommand(RESTORE, |restore| {
        let restore = restore.mut_args(|arg| match way.other().owns(arg.get_id().as_str()) {
            true => arg.hide(true),
            false => arg,
        });
        restore.args(connection).long_about(way.about()).override_usage(way.usage()).after_help(way.help())
    })
}

/// Refuses flags that do not belong to the selected way, and reports those that are missing for it.
///
/// # Errors
/// A usage error, as clap's own.
pub fn check(program: &mut Command, matches: &ArgMatches) -> Result<(), clap::Error> {
    let Some((RESTORE, restore)) = matches.subcommand() else { return Ok(()) };
    let Err((kind, text)) = fits(restore) else { return Ok(()) };
    program.build();
    let command = program.find_subcommand_mut(RESTORE);
    Err(command.map_or_else(|| clap::Error::raw(kind, &text), |command| command.error(kind, &text)))
}

fn fits(restore: &ArgMatches) -> Result<(), (ErrorKind, String)> {
    let is_given = |id: &str| restore.value_source(id) == Some(ValueSource::CommandLine);
    let way = match (is_given("cluster"), is_given("store")) {
        (true, true) => {
            let text = format!(
                "CLUSTER and --store cannot be used together; use one of the two ways to restore: {}; or {}",
                Way::Cluster.line(),
                Way::Store.line()
            );
            return Err((ErrorKind::ArgumentConflict, text));
        }
        (false, false) => {
            let text = format!("give either CLUSTER or --store: {}; or {}", Way::Cluster.line(), Way::Store.line());
            return Err((ErrorKind::MissingRequiredArgument, text));
        }
        (true, false) => Way::Cluster,
        (false, true) => Way::Store,
    };
    let mut foreign: Vec<&str> =
        restore.ids().map(|id| id.as_str()).filter(|id| way.other().owns(id) && is_given(id)).collect();
    foreign.sort_unstable();
    if !foreign.is_empty() {
        let flags = foreign.iter().map(|id| flag(id)).collect::<Vec<_>>().join(", ");
        let (belongs, other, this) =
            (if foreign.len() == 1 { "belongs" } else { "belong" }, way.other().line(), way.line());
        return Err((
            ErrorKind::ArgumentConflict,
            format!("{flags} {belongs} to {other}, and cannot be used with {this}"),
        ));
    }
    if way == Way::Store && !is_given("data_dir") {
        let text = "--data-dir is required with --store: the data directory to restore into";
        return Err((ErrorKind::MissingRequiredArgument, text.to_owned()));
    }
    Ok(())
}

fn flag(id: &str) -> String {
    match id {
        CLUSTER_NAME => "--cluster".into(),
        id => format!("--{}", id.replace('_', "-")),
    }
}
