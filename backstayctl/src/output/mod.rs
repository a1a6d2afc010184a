//! Resources as text: tables, YAML, JSON and single fields. Pure functions of the resources.

pub mod json;
pub mod jsonpath;
pub mod table;
mod view;
pub mod yaml;

use backstay_protocol::resource::Resource;
use backstay_protocol::types::TypeDefinition;

use jsonpath::FieldMissing;
pub use view::{Format, View};

/// The resources of one type in the form that the view selects; ends with a line end unless it is empty.
///
/// # Errors
/// A JSONPath is not found in one of them.
pub fn render(view: &View, definition: &TypeDefinition, resources: &[Resource]) -> Result<String, FieldMissing> {
    match &view.format {
        Format::Table | Format::Wide => Ok(table::render(view, definition, resources)),
        Format::Name => Ok(resources.iter().map(|resource| name(definition, resource)).collect()),
        Format::Yaml => Ok(yaml::stream(resources)),
        Format::Json => Ok(resources.iter().map(json::render).collect()),
        Format::Field(path) => resources.iter().map(|r| path.find(&json::value(r)).map(|found| found + "\n")).collect(),
    }
}

/// `etcdbackupstatus/talos-default`, with a line end.
pub fn name(definition: &TypeDefinition, resource: &Resource) -> String {
    format!("{}/{}\n", definition.singular.to_ascii_lowercase(), resource.metadata.id)
}
