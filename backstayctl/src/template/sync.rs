//! What must change on the server so that it matches a template, and making these changes.

use std::collections::HashSet;

use backstay_protocol::api::{DeleteRequest, GetRequest};
use backstay_protocol::resource::{LABEL_CLUSTER, Resource};
use backstay_protocol::spec::{ClusterSpec, MachineSetNodeSpec, MachineSetSpec, Spec};
use backstay_protocol::types::{self, TypeDefinition};

use super::{Template, TemplateError, render, unsaid};
use crate::api::{Api, CallError, Transport};
use crate::apply::{self, Mode};
use crate::console::{Console, Failure};
use crate::diff::Diff;

/// What is done to a resource. In the order in which a sync does it: nothing is updated to need what does not
/// exist yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    Create,
    Update,
    Destroy,
}

/// One change of one resource.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    pub change: Change,
    /// The resource as it should be, or the one to delete.
    pub resource: Resource,
    /// The resource that an update replaces.
    pub before: Option<Resource>,
}

impl Change {
    fn verb(self) -> &'static str {
        match self {
            Self::Create => "creating",
            Self::Update => "updating",
            Self::Destroy => "destroying",
        }
    }
}

impl Step {
    pub fn diff(&self) -> Diff {
        match self.change {
            Change::Destroy => Diff::of(Some(&self.resource), None),
            Change::Create | Change::Update => Diff::of(self.before.as_ref(), Some(&self.resource)),
        }
    }
}

/// The types of the resources of a template, in the order in which they are created.
fn kinds() -> [&'static TypeDefinition; 3] {
    [&types::CLUSTERS, &types::MACHINE_SETS, &types::MACHINE_SET_NODES]
}

/// What must be done: updates, creations, then the deletion of what the template no longer has.
///
/// # Errors
/// NATS or the coordinator does not answer, or the coordinator refuses the request.
pub async fn plan<T: Transport>(api: &Api<T>, template: &Template) -> Result<Vec<Step>, Failure> {
    let cluster = template.cluster.name.as_str();
    let mut there = members(api, cluster).await?;
    let wanted = render::resources(template);
    for resource in &wanted {
        if there.iter().any(|other| same(other, resource)) {
            continue;
        }
        // Not among the cluster's own: new, or without the label, or another cluster's.
        let definition = definition(resource);
        if let Some(other) = api.find(definition, &resource.metadata.id).await? {
            refuse_foreign(&other, cluster)?;
            there.push(other);
        }
    }
    Ok(steps(&there, wanted))
}

/// The machine sets and machines with the cluster's label.
pub(super) async fn members<T: Transport>(api: &Api<T>, cluster: &str) -> Result<Vec<Resource>, CallError> {
    let selector = format!("{LABEL_CLUSTER}={cluster}");
    let mut found = Vec::new();
    for definition in &kinds()[1..] {
        let request = GetRequest { selector: selector.clone(), ..GetRequest::default() };
        found.extend(api.get(definition, &request).await?);
    }
    Ok(found)
}

fn refuse_foreign(resource: &Resource, cluster: &str) -> Result<(), TemplateError> {
    match resource.metadata.labels.get(LABEL_CLUSTER) {
        Some(owner) if owner != cluster && resource.metadata.kind == types::MACHINE_SET_NODES.name => {
            Err(TemplateError::Taken { machine: resource.metadata.id.clone(), owner: owner.clone() })
        }
        _ => Ok(()),
    }
}

fn same(a: &Resource, b: &Resource) -> bool {
    a.metadata.kind == b.metadata.kind && a.metadata.id == b.metadata.id
}

fn definition(resource: &Resource) -> &'static TypeDefinition {
    let found = kinds().into_iter().find(|d| d.name == resource.metadata.kind);
    found.expect("a template makes resources of these types only")
}

/// Compares what there is with what should be. Pure.
pub fn steps(there: &[Resource], wanted: Vec<Resource>) -> Vec<Step> {
    let kept: HashSet<(String, String)> =
        wanted.iter().map(|r| (r.metadata.kind.clone(), r.metadata.id.clone())).collect();
    let (mut updates, mut creations) = (Vec::new(), Vec::new());
    for mut after in wanted {
        let Some(before) = there.iter().find(|other| same(other, &after)) else {
            creations.push(Step { change: Change::Create, resource: after, before: None });
            continue;
        };
        apply::keep_counters(&mut after, before);
        after.metadata.finalizers.clone_from(&before.metadata.finalizers);
        unsaid::keep(&mut after, before);
        let step = Step { change: Change::Update, resource: after, before: Some(normal(before)) };
        if !step.diff().is_empty() {
            updates.push(step);
        }
    }
    // Machines before their sets. What has an owner is the owner's to destroy.
    let gone = there
        .iter()
        .rev()
        .filter(|r| r.metadata.owner.is_empty() && !kept.contains(&(r.metadata.kind.clone(), r.metadata.id.clone())));
    let destroy = |resource: &Resource| Step { change: Change::Destroy, resource: resource.clone(), before: None };
    updates.into_iter().chain(creations).chain(gone.map(destroy)).collect()
}

/// The resource with its spec as rendering a template would write it: the same order, and all fields.
fn normal(resource: &Resource) -> Resource {
    fn again<S: Spec>(resource: &Resource) -> Option<serde_json::Value> {
        resource.typed::<S>().ok().and_then(|spec| serde_json::to_value(spec).ok())
    }
    let spec = match resource.metadata.kind.as_str() {
        kind if kind == types::CLUSTERS.name => again::<ClusterSpec>(resource),
        kind if kind == types::MACHINE_SETS.name => again::<MachineSetSpec>(resource),
        _ => again::<MachineSetNodeSpec>(resource),
    };
    // What this build does not know it shows as it is.
    Resource { metadata: resource.metadata.clone(), spec: spec.unwrap_or_else(|| resource.spec.clone()) }
}

/// Prints what `run` would change.
///
/// # Errors
/// NATS or the coordinator does not answer, or the coordinator refuses the request.
pub async fn diff<T: Transport>(api: &Api<T>, template: &Template, console: &mut Console<'_>) -> Result<(), Failure> {
    for step in plan(api, template).await? {
        console.print(&step.diff().render(console.colour))?;
    }
    Ok(())
}

/// Makes the changes one by one, until one fails; those before it stay.
///
/// # Errors
/// Names the file and the resource that failed.
pub async fn run<T: Transport>(
    api: &Api<T>,
    file: &str,
    template: &Template,
    mode: Mode,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let mut steps = plan(api, template).await?;
    steps.sort_by_key(|step| step.change);
    take_all(api, file, steps, mode, console).await
}

/// Prints each step, then carries it out.
pub(super) async fn take_all<T: Transport>(
    api: &Api<T>,
    file: &str,
    steps: Vec<Step>,
    mode: Mode,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    for step in steps {
        let resource = &step.resource;
        let dry = if mode.dry_run { " (dry run)" } else { "" };
        console.print(&format!(
            "* {}{dry} {}({})\n",
            step.change.verb(),
            resource.metadata.kind,
            resource.metadata.id
        ))?;
        if mode.verbose {
            console.print(&step.diff().render(console.colour))?;
        }
        if !mode.dry_run {
            take(api, file, step, console).await?;
        }
    }
    Ok(())
}

async fn take<T: Transport>(api: &Api<T>, file: &str, step: Step, console: &mut Console<'_>) -> Result<(), Failure> {
    let Step { change, resource, .. } = step;
    let (definition, address) = (definition(&resource), resource.address());
    if change == Change::Destroy {
        // The file says that it is to go, whoever is connected.
        let force = definition == &types::CLUSTERS;
        let (id, namespace) = (resource.metadata.id, resource.metadata.namespace);
        let request = DeleteRequest { id, namespace, force, dry_run: false };
        let result = api.delete(definition, &request).await;
        return result.map_err(|cause| match cause.is_absence() {
            true => Failure::Call(cause),
            false => Failure::Delete { address, cause },
        });
    }
    let result = api.apply(definition, resource, false).await;
    let response = result.map_err(|cause| apply::failed(file.to_owned(), address, cause))?;
    response.notes.iter().try_for_each(|note| console.remark(&format!("Note: {note}")))?;
    Ok(())
}

#[cfg(test)]
#[path = "sync_tests.rs"]
mod tests;
