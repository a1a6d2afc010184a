//! Completion in a shell: the script calls this program, which asks the coordinator for what only the coordinator knows.
//!
//! It answers quickly, with nothing if the coordinator does not answer, since a person is typing.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use backstay_protocol::api::GetRequest;
use backstay_protocol::resource::{LABEL_CLUSTER, Resource};
use backstay_protocol::spec::BackupSpec;
use backstay_protocol::types::{self, TypeDefinition};
use clap::{Arg, ArgMatches, Command, CommandFactory, FromArgMatches, ValueHint};
use clap_complete::CompleteEnv;
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};

use super::api::{Api, Transport};
use super::arguments::{Arguments, Connection};
use super::bus::Bus;
use super::contexts;
use super::listing;
use super::session::Session;

/// If this variable is set, the program completes a line instead of running it.
pub const VARIABLE: &str = "BACKSTAYCTL_COMPLETE";
/// How long a query may take.
const PATIENCE: Duration = Duration::from_millis(1500);
/// The value that means the newest backup.
const LATEST: &str = "latest";

/// What kind of value is completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Clusters,
    Types,
    /// An id of the type before it.
    Ids,
    /// A snapshot of the cluster before it.
    Snapshots,
    Contexts,
    Formats,
    /// `1h`, `off` and such.
    Intervals,
}

/// Finds the values of a kind for a line that is being typed.
pub type Source = Arc<dyn Fn(Kind) -> Vec<String> + Send + Sync>;

/// Completes the line if a shell asks for that, and returns whether it did.
///
/// # Errors
/// The shell is not known, or its line makes no sense.
pub fn complete() -> Result<bool, clap::Error> {
    let words: Vec<OsString> = std::env::args_os().skip_while(|word| word != "--").skip(1).collect();
    let source: Source = Arc::new(move |kind| values(kind, &words));
    let here = std::env::current_dir().ok();
    CompleteEnv::with_factory(|| command(&source)).var(VARIABLE).try_complete(std::env::args_os(), here.as_deref())
}

/// The grammar, whose values are completed from `source`.
pub fn command(source: &Source) -> Command {
    completed(Arguments::command(), "", source)
}

fn completed(command: Command, parent: &str, source: &Source) -> Command {
    let name = command.get_name().to_owned();
    let command = command.mut_args(|arg| match kind(&name, parent, &arg) {
        Some(kind) => {
            let source = Arc::clone(source);
            let candidates = move || source(kind).into_iter().map(CompletionCandidate::new).collect();
            arg.add(ArgValueCandidates::new(candidates))
        }
        None => match arg.get_value_names().and_then(|names| names.first()).map(|name| name.as_str()) {
            Some("FILE" | "FILE|-" | "FILE|DIR|-") => arg.value_hint(ValueHint::AnyPath),
            Some("DIR") => arg.value_hint(ValueHint::DirPath),
            _ => arg,
        },
    });
    let command = with_hidden_aliases(command);
    command.mut_subcommands(|below| completed(below, &name, source))
}

/// A command is completed to its full name. Its short forms are understood, but not suggested.
fn with_hidden_aliases(command: Command) -> Command {
    // clap takes names that live as long as the process, which ends with the line.
    let aliases: Vec<&'static str> = command.get_visible_aliases().map(|alias| &*alias.to_owned().leak()).collect();
    command.visible_alias(None).aliases(aliases)
}

fn kind(command: &str, parent: &str, arg: &Arg) -> Option<Kind> {
    match (command, arg.get_id().as_str()) {
        // From a store, which nobody asks in the middle of a line.
        ("list" | "merge", _) => None,
        (_, "cluster" | "clusters" | "data_of_another_cluster") => Some(Kind::Clusters),
        (_, "kind" | "types") => Some(Kind::Types),
        (_, "id" | "ids") => Some(Kind::Ids),
        (_, "snapshot") => Some(Kind::Snapshots),
        (_, "context") => Some(Kind::Contexts),
        (_, "name") if parent == "config" => Some(Kind::Contexts),
        (_, "output") => Some(Kind::Formats),
        ("schedule", "interval") => Some(Kind::Intervals),
        _ => None,
    }
}

/// The completions that need no query; `None` if a query is needed.
fn known(kind: Kind, variables: &[(String, String)]) -> Option<Vec<String>> {
    let words = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect());
    match kind {
        Kind::Types => Some(types::ALL.iter().map(|definition| definition.singular.to_ascii_lowercase()).collect()),
        Kind::Formats => words(&["table", "yaml", "json"]),
        Kind::Intervals => words(&["1h", "6h", "24h", "off"]),
        Kind::Contexts => {
            let contexts = contexts::file::path(variables).and_then(|path| contexts::file::load(&path));
            Some(contexts.map(|contexts| contexts.contexts.into_keys().collect()).unwrap_or_default())
        }
        Kind::Clusters | Kind::Ids | Kind::Snapshots => None,
    }
}

fn values(kind: Kind, words: &[OsString]) -> Vec<String> {
    let variables: Vec<(String, String)> = backstay_daemon::settings::variables().collect();
    if let Some(known) = known(kind, &variables) {
        return known;
    }
    let line = Line::of(words);
    let asked = async {
        let api = Api::new(Bus::connect(&line.session(variables).settings().ok()?).await.ok()?);
        line.ask(kind, &api).await
    };
    let found = tokio::runtime::Builder::new_current_thread().enable_all().build().ok().and_then(|runtime| {
        let found = runtime.block_on(async { tokio::time::timeout(PATIENCE, asked).await.ok()? });
        // A name that is still being resolved is not waited for.
        runtime.shutdown_background();
        found
    });
    let mut found = found.unwrap_or_default();
    if kind == Kind::Snapshots {
        found.push(LATEST.to_owned());
    }
    found
}

/// What is typed so far.
#[derive(Debug, Default)]
struct Line {
    connection: Connection,
    context: Option<String>,
    kind: Option<&'static TypeDefinition>,
    cluster: Option<String>,
    /// A store is asked for backups, not the coordinator.
    of_store: bool,
}

impl Line {
    /// What can be understood of an incomplete line.
    fn of(words: &[OsString]) -> Self {
        let mut program = Arguments::command().ignore_errors(true);
        let Ok(matches) = program.try_get_matches_from_mut(words) else { return Self::default() };
        let mut connection = Connection::from_arg_matches(&matches).unwrap_or_default();
        connection.note_environment(&matches);
        let mut leaf: &ArgMatches = &matches;
        while let Some((_, below)) = leaf.subcommand() {
            leaf = below;
        }
        let text = |id: &str| leaf.try_get_one::<String>(id).ok().flatten().filter(|text| !text.is_empty()).cloned();
        let other = text("data_of_another_cluster");
        Self {
            context: matches.try_get_one::<String>("context").ok().flatten().cloned(),
            kind: text("kind").and_then(|kind| types::resolve(&kind).ok()),
            cluster: other.or_else(|| text("cluster")),
            of_store: text("store").is_some(),
            connection,
        }
    }

    /// The connection settings of the line.
    fn session(&self, variables: Vec<(String, String)>) -> Session {
        Session { connection: self.connection.clone(), context: self.context.clone(), variables }
    }

    async fn ask<T: Transport>(&self, kind: Kind, api: &Api<T>) -> Option<Vec<String>> {
        let id = |resource: &Resource| resource.metadata.id.clone();
        match kind {
            Kind::Clusters => Some(all(api, &types::CLUSTERS, "").await?.iter().map(id).collect()),
            Kind::Ids => Some(all(api, self.kind?, "").await?.iter().map(id).collect()),
            Kind::Snapshots if !self.of_store => {
                let selector = format!("{LABEL_CLUSTER}={}", self.cluster.as_ref()?);
                let backups = all(api, &types::ETCD_BACKUPS, &selector).await?;
                Some(listing::typed::<BackupSpec>(&backups).map(|(_, backup)| backup.snapshot).collect())
            }
            _ => None,
        }
    }
}

async fn all<T: Transport>(api: &Api<T>, definition: &TypeDefinition, selector: &str) -> Option<Vec<Resource>> {
    let request = GetRequest { selector: selector.to_owned(), ..GetRequest::default() };
    api.get(definition, &request).await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Coordinator;
    use backstay_protocol::spec::ClusterSpec;

    /// What completes a line, whose last word is being typed.
    fn completes(line: &str) -> Vec<String> {
        let source: Source = Arc::new(|kind| vec![format!("{kind:?}")]);
        let words: Vec<OsString> = format!("backstayctl {line}").split(' ').map(OsString::from).collect();
        let at = words.len() - 1;
        let found = clap_complete::engine::complete(&mut command(&source), words, at, None).expect("candidates");
        found.iter().map(|candidate| candidate.get_value().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn each_value_is_completed_by_what_it_is() {
        for (line, kind) in [
            ("backup ", "Clusters"),
            ("status a ", "Clusters"),
            ("agents ", "Clusters"),
            ("schedule ", "Clusters"),
            ("schedule a ", "Intervals"),
            ("restore ", "Clusters"),
            ("restore a --snapshot ", "Snapshots"),
            ("verify a --snapshot ", "Snapshots"),
            ("cluster template export --cluster ", "Clusters"),
            ("get ", "Types"),
            ("get cluster ", "Ids"),
            ("g cluster ", "Ids"),
            ("delete ", "Types"),
            ("delete cluster a ", "Ids"),
            ("--context ", "Contexts"),
            ("status --context ", "Contexts"),
            ("config use-context ", "Contexts"),
            ("get cluster -o ", "Formats"),
        ] {
            assert!(completes(line).contains(&kind.to_owned()), "{line}: {:?}", completes(line));
        }
        assert!(!completes("merge --store s3://b --cluster ").contains(&"Clusters".to_owned()));
    }

    #[test]
    fn every_command_that_is_shown_and_every_flag_is_completed() {
        let commands = completes("");
        for shown in Arguments::command().get_subcommands().filter(|command| !command.is_hide_set()) {
            assert!(commands.contains(&shown.get_name().to_owned()), "{}: {commands:?}", shown.get_name());
        }
        let flags = completes("restore --");
        for flag in ["--data-of-another-cluster", "--data-dir", "--snapshot", "--nats"] {
            assert!(flags.contains(&flag.to_owned()), "both ways to restore: {flags:?}");
        }
    }

    #[tokio::test]
    async fn what_the_coordinator_knows_is_asked_for_the_words_before() {
        let backup = |cluster: &str, seconds: i64| {
            let snapshot = backstay_protocol::SnapshotName::from_unix_seconds(seconds).expect("in range");
            let spec = BackupSpec { snapshot: snapshot.to_string(), ..BackupSpec::default() };
            Resource::of(format!("{cluster}-{seconds}"), &spec).in_cluster(cluster)
        };
        let cluster = |name: &str| Resource::of(name, &ClusterSpec::default());
        let api = Api::new(Coordinator::with([cluster("a"), cluster("b"), backup("a", 5), backup("b", 6)]));
        let ask = async |kind, line: &str| {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            Line::of(&words).ask(kind, &api).await
        };
        let names = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(ask(Kind::Clusters, "backstayctl backup ").await, names(&["a", "b"]));
        assert_eq!(ask(Kind::Ids, "backstayctl get cluster ").await, names(&["a", "b"]));
        assert_eq!(ask(Kind::Ids, "backstayctl get nothing ").await, None);
        assert_eq!(
            ask(Kind::Snapshots, "backstayctl restore b --snapshot ").await,
            names(&["FFFFFFFFFFFFFFFA.snapshot"])
        );
        let of_other = "backstayctl restore b --data-of-another-cluster a --snapshot ";
        assert_eq!(ask(Kind::Snapshots, of_other).await, names(&["FFFFFFFFFFFFFFFB.snapshot"]));
        assert_eq!(ask(Kind::Snapshots, "backstayctl restore --store file:///s --snapshot ").await, None);
        assert_eq!(
            Line::of(&["backstayctl", "--context", "c", "--nats", "nats://h", "get", "-"].map(OsString::from))
                .context
                .as_deref(),
            Some("c")
        );
        let absent = Api::new(Coordinator::absent());
        assert_eq!(Line::default().ask(Kind::Clusters, &absent).await, None);
    }
}
