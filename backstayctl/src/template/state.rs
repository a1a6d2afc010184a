//! `cluster template status`: whether each resource matches the template.

use std::collections::HashMap;

use backstay_protocol::backstay_types::{RestorePhase, RestoreSpec};
use backstay_protocol::types;

use super::model::CONTROL_PLANES;
use super::sync::{self, Change};
use super::{Template, render};
use crate::api::{Api, Transport};
use crate::cluster_restore::show;
use crate::console::{Console, Failure};
use crate::output::table;

const IN_SYNC: &str = "in sync";

/// Prints the template's resources in its order, then what a sync would delete.
///
/// # Errors
/// [`Failure::No`] where anything is not in sync.
pub async fn run<T: Transport>(api: &Api<T>, template: &Template, console: &mut Console<'_>) -> Result<(), Failure> {
    let steps = sync::plan(api, template).await?;
    let name = |kind: &str, id: &str| (kind.to_owned(), id.to_owned());
    let changes: HashMap<_, _> = steps
        .iter()
        .map(|step| (name(&step.resource.metadata.kind, &step.resource.metadata.id), step.change))
        .collect();
    let wanted = render::resources(template);
    let (restored, restoring) = restore(api, template).await?;
    let control_planes = format!("{}-{CONTROL_PLANES}", template.cluster.name);
    let row = |kind: &str, id: &str| {
        let state = changes.get(&name(kind, id)).copied().map_or(IN_SYNC, word).to_owned();
        let state = match &restoring {
            Some(text) if kind == types::MACHINE_SETS.name && id == control_planes => format!("{state}; {text}"),
            _ => state,
        };
        vec![kind.to_owned(), id.to_owned(), state]
    };
    let extra = steps.iter().filter(|step| step.change == Change::Destroy).map(|step| &step.resource);
    let rows = wanted.iter().chain(extra).map(|r| row(&r.metadata.kind, &r.metadata.id));
    console.print(&table::plain(&["TYPE", "ID", "STATE"], rows))?;
    if steps.is_empty() && restored { Ok(()) } else { Err(Failure::No) }
}

/// Whether no restore of the cluster is running and the template's own has not failed, and a text about that.
async fn restore<T: Transport>(api: &Api<T>, template: &Template) -> Result<(bool, Option<String>), Failure> {
    let found = api.find(&types::RESTORES, template.cluster.name.as_str()).await?;
    let Some(spec) = found.and_then(|resource| resource.typed::<RestoreSpec>().ok()) else { return Ok((true, None)) };
    let bootstrap = template.sets.iter().find_map(|set| set.bootstrap);
    let ours = bootstrap.is_some_and(|b| {
        (b.cluster.to_string(), b.snapshot.to_string()) == (spec.clusteruuid.clone(), spec.snapshot.clone())
    });
    Ok(match spec.phase {
        RestorePhase::Failed if ours => (false, Some(format!("restore failed: {}", spec.error))),
        RestorePhase::Restored if ours => (true, Some(format!("restored from {}", spec.snapshot))),
        RestorePhase::Failed | RestorePhase::Restored => (true, None),
        _ => (false, Some(format!("restore is {}", show::line(&spec)))),
    })
}

fn word(change: Change) -> &'static str {
    match change {
        Change::Create => "missing",
        Change::Update => "differs",
        Change::Destroy => "not in the template",
    }
}
