//! Resources as text: tables, YAML, JSON and single fields. Pure functions of the resources.

pub mod json;
pub mod jsonpath;
pub mod table;
pub mod yaml;

use std::str::FromStr;

use backstay_protocol::resource::Resource;
use backstay_protocol::types::TypeDefinition;

use jsonpath::{FieldMissing, JsonPath};

/// What `-o` asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Format {
    #[default]
    Table,
    /// A table with all there is to say, whole ids and whole times, as wide as it gets.
    Wide,
    /// `TYPE/ID`, as `get` and `describe` take it.
    Name,
    Yaml,
    Json,
    Field(JsonPath),
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            None if text == "table" => Ok(Self::Table),
            None if text == "wide" => Ok(Self::Wide),
            None if text == "name" => Ok(Self::Name),
            None if text == "yaml" => Ok(Self::Yaml),
            None if text == "json" => Ok(Self::Json),
            Some(("jsonpath", path)) => path.parse().map(Self::Field).map_err(|e: jsonpath::PathError| e.to_string()),
            _ => Err(format!(
                "output format {text:?} is not supported: use table, wide, name, yaml, json or jsonpath='{{.spec.FIELD}}'"
            )),
        }
    }
}

/// The form that is asked for, and whether tables have a heading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    pub format: Format,
    pub headings: bool,
}

impl Default for View {
    fn default() -> Self {
        Self::from(Format::default())
    }
}

impl From<Format> for View {
    fn from(format: Format) -> Self {
        Self { format, headings: true }
    }
}

impl View {
    /// Whether a table shows all there is.
    pub fn is_wide(&self) -> bool {
        self.format == Format::Wide
    }
}

/// The resources of one type in the form that is asked for; ends with a line end unless empty.
pub fn render(view: &View, definition: &TypeDefinition, resources: &[Resource]) -> Result<String, FieldMissing> {
    match &view.format {
        Format::Table | Format::Wide => Ok(table::render(view, definition, resources)),
        Format::Name => Ok(resources.iter().map(|resource| name(definition, resource)).collect()),
        Format::Yaml => Ok(yaml::stream(resources)),
        Format::Json => Ok(resources.iter().map(json::render).collect()),
        Format::Field(path) => resources.iter().map(|r| path.find(&json::value(r)).map(|found| found + "\n")).collect(),
    }
}

/// `etcdbackupstatus/talos-default`, on a line.
pub fn name(definition: &TypeDefinition, resource: &Resource) -> String {
    format!("{}/{}\n", definition.singular.to_ascii_lowercase(), resource.metadata.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_named_or_refused() {
        assert_eq!("yaml".parse(), Ok(Format::Yaml));
        assert_eq!(["wide", "name"].map(str::parse), [Ok(Format::Wide), Ok(Format::Name)]);
        assert!(matches!("jsonpath={.spec.error}".parse(), Ok(Format::Field(_))));
        for text in ["tall", "", "yaml=x", "jsonpath", "jsonpath="] {
            assert!(text.parse::<Format>().is_err(), "{text}");
        }
        let error = "tall".parse::<Format>().expect_err("unknown");
        assert!(error.starts_with(r#"output format "tall" is not supported"#), "{error}");
    }
}
