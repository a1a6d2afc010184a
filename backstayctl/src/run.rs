//! Runs the command that the arguments name. Commands that need no connection make none.

use std::ffi::OsString;
use std::io::Read;

use backstay_protocol::{Clock, types};
use clap::CommandFactory;
use clap::error::ErrorKind;

use super::apply::{self, Mode};
use super::arguments::{
    Apply, Arguments, Backup, ClusterCommand, Command, Delete, Describe, ModeArgs, OfCluster, Schedule, Status,
    TemplateVerb, Verify, Version,
};
use super::cluster_restore;
use super::console::{Console, Failure};
use super::get::{self, Query};
use super::output::yaml;
use super::session::Session;
use super::template::{self, Template, TemplateError, export, render, state, sync};
use super::{
    arguments, backup, backups, contexts, delete, describe, documents, files, kinds, listing, manual, schedule, status,
    verify, version, watch,
};

/// Runs the command in the arguments. `variables` is the environment; those that are not UTF-8 are ignored.
///
/// # Errors
/// Why the command failed; the caller prints it and chooses the exit code.
pub async fn run(
    arguments: Arguments,
    stdin: &mut dyn Read,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
    clock: &dyn Clock,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let text = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
    let Arguments { connection, context, command } = arguments;
    let session = Session { connection, context, variables: variables.into_iter().filter_map(text).collect() };
    match command {
        Command::Get(get) => {
            let watched = get.watch;
            let query = query(get, console.screen)?;
            if query.is_of_types() {
                return kinds::run(&query, console);
            }
            query.check()?;
            let api = session.api(console).await?;
            match watched {
                true => watch::run(&api, &query, console).await,
                false => get::run(&api, &query, console).await,
            }
        }
        Command::Describe(Describe { kind, id }) => {
            let (kind, id) = get::address(kind, id)?;
            let definition = types::resolve(&kind)?;
            describe::run(&session.api(console).await?, definition, &id, clock.now(), console).await
        }
        Command::Apply(Apply { files, mode }) => {
            let documents = documents::load(&files, stdin)?;
            apply::run(&session.api(console).await?, documents, mode.into(), console).await
        }
        Command::Delete(Delete { kind, ids, namespace, yes, dry_run, force }) => {
            let definition = types::resolve(&kind)?;
            if force && definition != &types::CLUSTERS {
                usage(&["delete"], ErrorKind::ArgumentConflict, "--force can only be used with clusters");
            }
            let query = delete::Query { definition, namespace, ids, yes, dry_run, force };
            delete::run(&session.api(console).await?, &query, stdin, console).await
        }
        Command::Completion { shell } => manual::completion(shell, console),
        Command::Man { folder } => manual::pages(&folder),
        Command::Status(Status { clusters, grace, output, watch, no_headers }) => {
            let query = status::Query { clusters, grace, form: output, headings: !no_headers, fits: console.screen };
            let api = session.api(console).await?;
            match watch {
                true => status::watch::run(&api, &query, clock, console).await,
                false => status::run(&api, &query, clock.now(), console).await,
            }
        }
        Command::Schedule(Schedule { cluster, interval }) => {
            schedule::run(&session.api(console).await?, &cluster, interval, console).await
        }
        Command::Config { command } => {
            let Session { connection, context, variables } = session;
            contexts::commands::run(command, context.as_deref(), connection.settings(), &variables, console)
        }
        Command::Backup(Backup { cluster, wait, timeout }) => {
            let wait = wait.then_some(timeout);
            backup::run(&session.api(console).await?, &cluster, wait, clock, console).await
        }
        Command::Verify(Verify { cluster, snapshot, boot, timeout, output }) => {
            let query = verify::Query::new(cluster, &snapshot, boot, timeout, output).map_err(Failure::Name)?;
            verify::run(&session.api(console).await?, &query, console).await
        }
        Command::Backups(OfCluster { cluster, shown }) => {
            let view = shown.view(console.screen);
            backups::run(&session.api(console).await?, &cluster, &view, clock.now(), console).await
        }
        Command::Agents(OfCluster { cluster, shown }) => {
            let view = shown.view(console.screen);
            listing::agents(&session.api(console).await?, &cluster, &view, clock.now(), console).await
        }
        Command::Runs(OfCluster { cluster, shown }) => {
            let view = shown.view(console.screen);
            listing::runs(&session.api(console).await?, &cluster, &view, clock.now(), console).await
        }
        Command::Version(Version { client: true, output }) => version::client(output, console),
        Command::Version(Version { client: false, output }) => match session.api(console).await {
            Ok(api) => version::run(&api, output, console).await,
            Err(Failure::Call(error)) if error.is_absence() => version::alone(output, &error, console),
            Err(error) => Err(error),
        },
        Command::Restore(restore) => match cluster_restore::Query::of(&restore).map_err(Failure::Name)? {
            Some(query) => cluster_restore::run(&session.api(console).await?, &query, stdin, console).await,
            None => super::restore::run(*restore, clock.now(), console).await,
        },
        Command::List(list) => super::restore::list::run(list, console).await,
        Command::Merge(merge) => super::restore::merge::run(*merge, clock.now(), stdin, console).await,
        Command::Cluster { command: ClusterCommand::Template(template) } => {
            cluster_template(session, template, stdin, console).await
        }
    }
}

fn query(get: arguments::Get, is_terminal: bool) -> Result<Query, Failure> {
    let (kind, id) = get::address(get.kind, get.id)?;
    Ok(Query { kind, id, namespace: get.namespace, selector: get.selector, view: get.shown.view(is_terminal) })
}

impl From<ModeArgs> for Mode {
    fn from(args: ModeArgs) -> Self {
        Self { verbose: args.verbose, dry_run: args.dry_run }
    }
}

async fn cluster_template(
    session: Session,
    arguments: arguments::Template,
    stdin: &mut dyn Read,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    if let TemplateVerb::Export { cluster } = &arguments.verb {
        if arguments.file.is_some() {
            usage(&TEMPLATE, ErrorKind::ArgumentConflict, "the argument '--file <FILE|->' cannot be used with export");
        }
        listing::must_be_name(cluster)?;
        return export::run(&session.api(console).await?, cluster, console).await;
    }
    let Some(path) = arguments.file else {
        let text = "the following required arguments were not provided:\n  --file <FILE|->";
        usage(&TEMPLATE, ErrorKind::MissingRequiredArgument, text)
    };
    let text = files::read(&path, stdin).map_err(TemplateError::from)?;
    let template = Template::parse(&text.file, &text.text)?;
    match arguments.verb {
        TemplateVerb::Validate | TemplateVerb::Export { .. } => Ok(()),
        TemplateVerb::Render => Ok(console.print(&yaml::stream(&render::resources(&template)))?),
        TemplateVerb::Diff => sync::diff(&session.api(console).await?, &template, console).await,
        TemplateVerb::Sync(mode) => {
            sync::run(&session.api(console).await?, &text.file, &template, mode.into(), console).await
        }
        TemplateVerb::Status => state::run(&session.api(console).await?, &template, console).await,
        TemplateVerb::Delete(mode) => {
            template::delete::run(&session.api(console).await?, &template, mode.into(), console).await
        }
    }
}

const TEMPLATE: [&str; 2] = ["cluster", "template"];

/// A usage error like clap's own: prints it and ends the process with code 2.
fn usage(path: &[&str], kind: ErrorKind, text: &str) -> ! {
    let mut program = Arguments::command();
    program.build();
    let command = path.iter().try_fold(&mut program, |command, name| command.find_subcommand_mut(name));
    command.unwrap_or(&mut Arguments::command()).error(kind, text).exit()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::capture;
    use backstay_daemon::SystemClock;

    async fn ctl(line: &str, stdin: &str) -> Result<(String, String), String> {
        let words = std::iter::once("backstayctl").chain(line.split_whitespace());
        let arguments = Arguments::read(words).expect("a command");
        let mut stdin = stdin.as_bytes();
        capture(async |console| run(arguments, &mut stdin, [], &SystemClock, console).await).await
    }

    const PAGE: &str = include_str!("template/testdata/talos-default.yaml");
    const RESOURCES: &str = include_str!("template/testdata/talos-default.resources.yaml");

    #[tokio::test]
    async fn templates_are_checked_and_rendered_without_a_connection() {
        let nowhere = "--nats nats://127.0.0.1:1";
        assert_eq!(ctl(&format!("{nowhere} c t validate -f -"), PAGE).await, Ok((String::new(), String::new())));
        assert_eq!(ctl(&format!("{nowhere} c t -f - render"), PAGE).await, Ok((RESOURCES.into(), String::new())));
        let error = ctl(&format!("{nowhere} c t -f - diff"), "kind: Cluster\n").await;
        assert_eq!(
            error,
            Err("invalid template -: line 1: invalid cluster name \"\": must have 1 to 63 characters".into())
        );
    }

    #[tokio::test]
    async fn what_is_wrong_here_is_said_before_anybody_is_asked() {
        let error = ctl("--nats nats://127.0.0.1:1 apply -f -", "a: [").await.expect_err("invalid YAML");
        assert!(error.starts_with("failed to apply -: line "), "{error}");
        let error = ctl("--nats nats://127.0.0.1:1 get foo", "").await.expect_err("unknown");
        assert!(error.starts_with(r#"resource "foo" is not registered"#), "{error}");
    }

    #[tokio::test]
    async fn a_cluster_to_be_restored_names_its_backup() {
        let restored = PAGE.replace(
            "kind: ControlPlane\n",
            "kind: ControlPlane\nbootstrapSpec:\n  clusterUUID: 7d3a5a4c-9a0d-4c39-9b3c-3a2f1d9c2f10\n  snapshot: FFFFFFFF9A8AF980.snapshot\n",
        );
        let (rendered, _) = ctl("--nats nats://127.0.0.1:1 c t -f - render", &restored).await.expect("a template");
        let spec = "    bootstrapspec:\n        clusteruuid: 7d3a5a4c-9a0d-4c39-9b3c-3a2f1d9c2f10\n        snapshot: FFFFFFFF9A8AF980.snapshot\n";
        let plain = |text: &str| text.replace("  ", "");
        assert!(plain(&rendered).contains(&plain(spec)), "{rendered}");
    }

    #[tokio::test]
    async fn nobody_there_is_one_plain_sentence() {
        for line in [
            "get cluster",
            "get cluster --watch",
            "delete cluster x --yes",
            "c t -f - diff",
            "c t -f - sync",
            "c t -f - status",
            "c t -f - delete",
            "c t export --cluster x",
            "agents",
            "runs c",
            "runs",
            "backups",
            "describe cluster c",
            "get cluster/c",
            "backup c",
            "backup c --wait",
            "restore c --snapshot latest --yes",
            "verify c --boot",
            "status",
            "status --watch",
            "schedule c",
            "schedule c off",
            "restore c --snapshot latest --dry-run",
        ] {
            let error = ctl(&format!("--nats nats://me:hunter2@127.0.0.1:1 {line}"), PAGE).await.expect_err("nobody");
            assert!(error.starts_with("cannot reach NATS on nats://127.0.0.1:1 ("), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
