//! `apply`: creates or changes the resources in files, in their order.

use backstay_protocol::api::{Action, ApplyResponse};
use backstay_protocol::resource::Resource;

use super::api::{Api, CallError, Transport};
use super::console::{Console, Failure};
use super::diff::Diff;
use super::documents::{Document, DocumentError};

/// What to do, and how much to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mode {
    /// Print each step and what it changes.
    pub verbose: bool,
    /// Change nothing; print what would change.
    pub dry_run: bool,
}

/// Applies the documents in their order until one fails; those before it stay applied.
///
/// # Errors
/// Names the file and the resource that failed.
pub async fn run<T: Transport>(
    api: &Api<T>,
    documents: Vec<Document>,
    mode: Mode,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let addresses: Vec<String> = documents.iter().map(|document| document.resource.address()).collect();
    for (at, document) in documents.into_iter().enumerate() {
        let address = &addresses[at];
        match api.apply(document.definition, document.resource, mode.dry_run).await {
            Ok(response) => report(&response, address, mode, console)?,
            Err(cause) => {
                if !mode.dry_run
                    && let Some(note) = half_done(&addresses[..at], &addresses[at..])
                {
                    console.remark(&format!("Note: {note}"))?;
                }
                return Err(failed(document.file, address.clone(), cause));
            }
        }
    }
    Ok(())
}

/// What was applied before one was refused, and what was not; `None` where nothing was.
fn half_done(applied: &[String], others: &[String]) -> Option<String> {
    let list = |addresses: &[String]| addresses.join(", ");
    (!applied.is_empty()).then(|| format!("applied: {}; not applied: {}", list(applied), list(others)))
}

/// The coordinator could not be reached: that has nothing to do with the document.
pub fn failed(file: String, address: String, cause: CallError) -> Failure {
    match cause.is_absence() {
        true => Failure::Call(cause),
        false => DocumentError { file, address: Some(address), reason: cause.to_string() }.into(),
    }
}

fn report(response: &ApplyResponse, address: &str, mode: Mode, console: &mut Console<'_>) -> Result<(), Failure> {
    if mode.verbose {
        let done = match response.action {
            Action::Created => "created",
            Action::Updated => "updated",
            Action::Unchanged => "unchanged",
        };
        console.print(&format!("* {done}{} {address}\n", if mode.dry_run { " (dry run)" } else { "" }))?;
    }
    if mode.verbose || mode.dry_run {
        let diff = Diff::of(response.before.as_ref(), Some(&settled(response)));
        console.print(&diff.render(console.colour))?;
    }
    for note in &response.notes {
        console.remark(&format!("Note: {note}"))?;
    }
    Ok(())
}

/// The resource after the change, without what the coordinator maintains itself.
fn settled(response: &ApplyResponse) -> Resource {
    let mut after = response.resource.clone();
    if let Some(before) = &response.before {
        keep_counters(&mut after, before);
    }
    after
}

/// Takes over what changes with every write, so that only a person's changes remain as differences.
pub fn keep_counters(after: &mut Resource, before: &Resource) {
    let (mine, theirs) = (&mut after.metadata, &before.metadata);
    mine.version = theirs.version;
    mine.owner.clone_from(&theirs.owner);
    mine.phase.clone_from(&theirs.phase);
    mine.created.clone_from(&theirs.created);
    mine.updated.clone_from(&theirs.updated);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documents::parse;
    use crate::testing::{Coordinator, capture};

    const CLUSTER: &str = "metadata:\n  type: Clusters.omni.sidero.dev\n  id: c\nspec:\n  talosversion: 1.5.5\n";
    const SETS: &str = "---\nmetadata: {type: MachineSets.omni.sidero.dev, id: s}\n";

    async fn apply(api: &Api<Coordinator>, text: &str, mode: Mode) -> Result<(String, String), String> {
        let documents = parse("f.yaml", text).expect("documents");
        capture(async |console| run(api, documents, mode, console).await).await
    }

    const QUIET: Mode = Mode { verbose: false, dry_run: false };

    #[tokio::test]
    async fn success_prints_nothing() {
        let coordinator = Coordinator::default();
        let api = Api::new(coordinator.clone());
        assert_eq!(apply(&api, &format!("{CLUSTER}{SETS}"), QUIET).await, Ok((String::new(), String::new())));
        assert_eq!(coordinator.ids(), ["c", "s"]);
    }

    #[tokio::test]
    async fn notes_go_to_the_other_output() {
        let api = Api::new(Coordinator::default().noting("this provider ignores If-None-Match"));
        let (out, err) = apply(&api, CLUSTER, QUIET).await.expect("applied");
        assert_eq!((out.as_str(), err.as_str()), ("", "Note: this provider ignores If-None-Match\n"));
    }

    #[tokio::test]
    async fn a_dry_run_prints_the_diff_and_changes_nothing() {
        let coordinator = Coordinator::default();
        let api = Api::new(coordinator.clone());
        apply(&api, CLUSTER, QUIET).await.expect("applied");
        let changed = CLUSTER.replace("1.5.5", "1.6.0");
        let (out, _) = apply(&api, &changed, Mode { dry_run: true, ..QUIET }).await.expect("tried");
        let expected = "\
--- Clusters.omni.sidero.dev(default/c)
+++ Clusters.omni.sidero.dev(default/c)
@@ -6,4 +6,4 @@
   owner:
   phase: running
 spec:
-  talosversion: 1.5.5
+  talosversion: 1.6.0
";
        assert_eq!(out, expected);
        let (out, _) = apply(&api, CLUSTER, Mode { verbose: true, dry_run: true }).await.expect("tried");
        assert_eq!(out, "* unchanged (dry run) Clusters.omni.sidero.dev(default/c)\n");
        let (out, _) = apply(&api, &changed, Mode { verbose: true, ..QUIET }).await.expect("applied");
        assert_eq!(out, format!("* updated Clusters.omni.sidero.dev(default/c)\n{expected}"));
    }

    #[tokio::test]
    async fn a_refusal_names_file_resource_and_reason() {
        let coordinator = Coordinator::default().refusing("s", "bucket must be specified");
        let api = Api::new(coordinator.clone());
        let error = apply(&api, &format!("{CLUSTER}{SETS}"), QUIET).await;
        let expected = "failed to apply f.yaml: MachineSets.omni.sidero.dev(default/s): bucket must be specified";
        assert_eq!(error, Err(expected.into()));
        assert_eq!(coordinator.ids(), ["c"]);
    }

    #[tokio::test]
    async fn what_was_applied_before_a_refusal_is_said() {
        let coordinator = Coordinator::default().refusing("s", "no");
        let api = Api::new(coordinator.clone());
        let third = "---\nmetadata: {type: MachineSets.omni.sidero.dev, id: t}\n";
        let text = format!("{CLUSTER}{SETS}{third}");
        let said = async |mode: Mode| {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let mut console = Console::of(&mut out, &mut err);
            run(&api, parse("f.yaml", &text).expect("documents"), mode, &mut console).await.expect_err("refused");
            String::from_utf8(err).expect("text")
        };
        let expected = "Note: applied: Clusters.omni.sidero.dev(default/c); not applied: \
                        MachineSets.omni.sidero.dev(default/s), MachineSets.omni.sidero.dev(default/t)\n";
        assert_eq!(said(QUIET).await, expected);
        assert_eq!(said(Mode { dry_run: true, ..QUIET }).await, "", "nothing was applied");
    }

    #[tokio::test]
    async fn an_absent_coordinator_is_said_as_such() {
        let api = Api::new(Coordinator::absent());
        assert_eq!(apply(&api, CLUSTER, QUIET).await, Err("no coordinator answers on nats://h (absent)".into()));
    }
}
