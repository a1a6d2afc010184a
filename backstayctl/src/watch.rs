//! `get --watch`: prints what there is, and then each change.
//!
//! The coordinator is asked once a second. Every answer is complete, so a change that happens while NATS or the
//! coordinator is away is shown afterwards.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use backstay_protocol::resource::Resource;
use backstay_protocol::types::{self, Kind, TypeDefinition};
use serde_json::Value;
use tokio::time::MissedTickBehavior;

use super::api::{Api, CallError, Transport};
use super::console::{Console, Failure};
use super::get::Query;
use super::output::table::Rows;
use super::output::{self, Format, View, json, yaml};

const LOOK: Duration = Duration::from_secs(1);

/// The pause between two queries of what is read from the store, completely each time.
const LOOK_AT_STORE: Duration = Duration::from_secs(60);

/// What happened to a resource since the last query.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    Created(Resource),
    Updated(Resource),
    Deleted(Resource),
}

/// The state at the last query, by id.
#[derive(Debug, Default)]
pub struct Seen(BTreeMap<String, Resource>);

impl Seen {
    /// What has changed: deletions first, the rest in the order of the list. Remembers the new state.
    pub fn changes(&mut self, items: Vec<Resource>) -> Vec<Change> {
        let ids: HashSet<&str> = items.iter().map(|item| item.metadata.id.as_str()).collect();
        let gone: Vec<String> = self.0.keys().filter(|id| !ids.contains(id.as_str())).cloned().collect();
        let mut changes: Vec<Change> = gone.iter().filter_map(|id| self.0.remove(id)).map(Change::Deleted).collect();
        for item in items {
            match self.0.insert(item.metadata.id.clone(), item.clone()) {
                None => changes.push(Change::Created(item)),
                Some(before) if before != item => changes.push(Change::Updated(item)),
                Some(_) => {}
            }
        }
        changes
    }
}

/// Prints changes until it is interrupted, the output is closed, or the coordinator refuses.
///
/// # Errors
/// As [`Query::check`]; the coordinator refuses the request. One that does not answer is asked again.
pub async fn run<T: Transport>(api: &Api<T>, query: &Query, console: &mut Console<'_>) -> Result<(), Failure> {
    query.check()?;
    let definition = types::resolve(&query.kind)?;
    let request = query.request();
    let mut print = Print::new(definition, &query.view);
    let (mut seen, mut away) = (Seen::default(), false);
    let mut ticks = tokio::time::interval(match definition.kind {
        Kind::StoredBackups => LOOK_AT_STORE,
        _ => LOOK,
    });
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Nobody there at the beginning is an error; later it is waited out.
    let mut first = true;
    loop {
        ticks.tick().await;
        let items = match api.get(definition, &request).await {
            Ok(items) => items,
            Err(error) if error.is_not_found() && !query.id.is_empty() => Vec::new(),
            Err(error) if !first && error.passes() => {
                remark_once(&mut away, &error, console)?;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        if std::mem::take(&mut away) {
            console.remark("the coordinator is answering again")?;
        }
        let changes = seen.changes(items);
        if first || !changes.is_empty() {
            console.print(&print.text(&changes)?)?;
        }
        if console.lost.is_some() {
            return Ok(());
        }
        first = false;
    }
}

fn remark_once(away: &mut bool, error: &CallError, console: &mut Console<'_>) -> std::io::Result<()> {
    match std::mem::replace(away, true) {
        true => Ok(()),
        false => console.remark(&format!("waiting: {error}")),
    }
}

/// Turns changes into text.
struct Print<'a> {
    definition: &'static TypeDefinition,
    view: &'a View,
    table: Rows,
    begun: bool,
}

impl<'a> Print<'a> {
    fn new(definition: &'static TypeDefinition, view: &'a View) -> Self {
        Self { definition, view, table: Rows::default(), begun: false }
    }

    fn text(&mut self, changes: &[Change]) -> Result<String, Failure> {
        let begun = std::mem::replace(&mut self.begun, true);
        match &self.view.format {
            Format::Table | Format::Wide => {
                let wide = self.view.is_wide();
                let heading =
                    (!begun && self.view.headings).then(|| output::table::marked_heading(wide, self.definition, "*"));
                let rows = changes.iter().map(|change| {
                    let (mark, resource) = change.marked();
                    output::table::marked_row(wide, self.definition, mark, resource)
                });
                let rows: Vec<Vec<String>> = heading.into_iter().chain(rows).collect();
                Ok(self.table.more(&rows))
            }
            Format::Yaml => {
                let documents = changes.iter().map(|change| match change {
                    Change::Deleted(resource) => yaml::document(&deleted(resource)),
                    Change::Created(resource) | Change::Updated(resource) => yaml::resource(resource),
                });
                let joined = documents.collect::<Vec<_>>().join("---\n");
                Ok(if begun { format!("---\n{joined}") } else { joined })
            }
            Format::Json => Ok(changes
                .iter()
                .map(|change| match change {
                    Change::Deleted(resource) => json::pretty(&deleted(resource)),
                    Change::Created(resource) | Change::Updated(resource) => json::render(resource),
                })
                .collect()),
            // What is gone has no value, and no name.
            Format::Field(_) | Format::Name => changes
                .iter()
                .filter_map(|change| match change {
                    Change::Deleted(_) => None,
                    Change::Created(resource) | Change::Updated(resource) => Some(resource),
                })
                .map(|resource| Ok(output::render(self.view, self.definition, std::slice::from_ref(resource))?))
                .collect(),
        }
    }
}

impl Change {
    fn marked(&self) -> (&'static str, &Resource) {
        match self {
            Self::Created(resource) => ("+", resource),
            Self::Updated(resource) => ("~", resource),
            Self::Deleted(resource) => ("-", resource),
        }
    }
}

/// A deleted resource as a document: `event: deleted`, then its last content.
fn deleted(resource: &Resource) -> Value {
    let mut document = serde_json::Map::new();
    document.insert("event".into(), "deleted".into());
    if let Value::Object(fields) = json::value(resource) {
        document.extend(fields);
    }
    Value::Object(document)
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
