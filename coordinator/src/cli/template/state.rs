//! `cluster template status`: of each resource, whether it is what the template says.

use std::collections::HashMap;

use super::sync::{self, Change};
use super::{Template, render};
use crate::cli::api::{Api, Transport};
use crate::cli::console::{Console, Failure};
use crate::cli::output::table;

const IN_SYNC: &str = "in sync";

/// Prints the template's resources in its order, then what a sync would destroy.
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
    let row = |kind: &str, id: &str| {
        let state = changes.get(&name(kind, id)).copied().map_or(IN_SYNC, word);
        vec![kind.to_owned(), id.to_owned(), state.to_owned()]
    };
    let extra = steps.iter().filter(|step| step.change == Change::Destroy).map(|step| &step.resource);
    let rows = wanted.iter().chain(extra).map(|r| row(&r.metadata.kind, &r.metadata.id));
    console.print(&table::plain(&["TYPE", "ID", "STATE"], rows))?;
    if steps.is_empty() { Ok(()) } else { Err(Failure::No) }
}

fn word(change: Change) -> &'static str {
    match change {
        Change::Create => "missing",
        Change::Update => "differs",
        Change::Destroy => "not in the template",
    }
}
