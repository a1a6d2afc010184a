//! `get types`: which types of resources there are, and their names. Needs no connection.

use backstay_protocol::types::{self, TypeDefinition};
use serde_json::{Value, json};

use super::console::{Console, Failure};
use super::get::Query;
use super::output::table::Layout;
use super::output::{Format, View, json, yaml};

/// Prints the types in the selected form.
///
/// # Errors
/// A JSONPath is not found in a type.
pub fn run(query: &Query, console: &mut Console<'_>) -> Result<(), Failure> {
    let found: Vec<&TypeDefinition> = match query.id.as_str() {
        "" => types::ALL.to_vec(),
        name => vec![types::resolve(name)?],
    };
    Ok(console.print(&text(&found, &query.view)?)?)
}

fn text(found: &[&TypeDefinition], view: &View) -> Result<String, Failure> {
    let values: Vec<Value> = found.iter().map(|definition| value(definition)).collect();
    Ok(match &view.format {
        Format::Table | Format::Wide => table(found, view),
        Format::Name => {
            found.iter().map(|definition| format!("{}\n", definition.singular.to_ascii_lowercase())).collect()
        }
        Format::Json => json::stream(&values),
        Format::Yaml => values.iter().map(yaml::document).collect::<Vec<_>>().join("---\n"),
        Format::Field(path) => {
            values.iter().map(|value| path.find(value).map(|found| found + "\n")).collect::<Result<_, _>>()?
        }
    })
}

fn table(found: &[&TypeDefinition], view: &View) -> String {
    let heading = ["TYPE", "SHORT FORMS", "NAMESPACE", "WRITTEN BY"];
    let row = |definition: &&TypeDefinition| {
        let writer = definition.owner.map_or("people", |_| "Backstay");
        let names = short_forms(definition).join(", ");
        vec![definition.name.to_owned(), names, definition.namespace.to_owned(), writer.to_owned()]
    };
    Layout { headings: view.headings, fit: None }.table(&heading, found.iter().map(row))
}

fn value(definition: &TypeDefinition) -> Value {
    json!({
        "name": definition.name,
        "singular": definition.singular,
        "shortforms": short_forms(definition),
        "namespace": definition.namespace,
        "owner": definition.owner.unwrap_or_default(),
    })
}

/// The short names that mean only this type.
fn short_forms(definition: &TypeDefinition) -> Vec<String> {
    let singular = definition.singular.to_ascii_lowercase();
    let all = std::iter::once(singular).chain(definition.aliases.iter().map(|alias| (*alias).to_owned()));
    all.filter(|name| types::resolve(name) == Ok(definition)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::capture;

    async fn get(id: &str, format: &str) -> Result<String, String> {
        let view = View::from(format.parse::<Format>().expect("a format"));
        let query = Query { kind: "types".into(), id: id.into(), view, ..Query::default() };
        assert!(query.is_of_types());
        capture(async |console| run(&query, console)).await.map(|(out, _)| out)
    }

    #[tokio::test]
    async fn every_type_is_listed_with_names_that_resolve() {
        let table = get("", "table").await.expect("a table");
        insta::assert_snapshot!("types", table);
        assert!(table.lines().all(|line| line.chars().count() <= 120), "{table}");
        for definition in types::ALL {
            for name in short_forms(definition) {
                assert_eq!(types::resolve(&name), Ok(*definition), "{name}");
            }
        }
    }

    #[tokio::test]
    async fn other_forms_are_there_too() {
        assert_eq!(get("eb", "name").await, Ok("etcdbackup\n".into()));
        assert_eq!(get("eb", "jsonpath={.namespace}").await, Ok("external\n".into()));
        assert!(get("", "json").await.expect("JSON").starts_with("{\n"));
        assert!(get("nothing", "table").await.expect_err("no type").contains("is not registered"));
    }
}
