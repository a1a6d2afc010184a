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
    Yaml,
    Json,
    Field(JsonPath),
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            None if text == "table" => Ok(Self::Table),
            None if text == "yaml" => Ok(Self::Yaml),
            None if text == "json" => Ok(Self::Json),
            Some(("jsonpath", path)) => path.parse().map(Self::Field).map_err(|e: jsonpath::PathError| e.to_string()),
            _ => Err(format!(
                "output format {text:?} is not supported: use table, yaml, json or jsonpath='{{.spec.FIELD}}'"
            )),
        }
    }
}

/// The resources of one type in the form that is asked for; ends with a line end unless empty.
pub fn render(format: &Format, definition: &TypeDefinition, resources: &[Resource]) -> Result<String, FieldMissing> {
    match format {
        Format::Table => Ok(table::render(definition, resources)),
        Format::Yaml => Ok(yaml::stream(resources)),
        Format::Json => Ok(resources.iter().map(json::render).collect()),
        Format::Field(path) => resources.iter().map(|r| path.find(&json::value(r)).map(|found| found + "\n")).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_named_or_refused() {
        assert_eq!("yaml".parse(), Ok(Format::Yaml));
        assert!(matches!("jsonpath={.spec.error}".parse(), Ok(Format::Field(_))));
        for text in ["wide", "", "yaml=x", "jsonpath", "jsonpath="] {
            assert!(text.parse::<Format>().is_err(), "{text}");
        }
        let error = "wide".parse::<Format>().expect_err("unknown");
        assert!(error.starts_with(r#"output format "wide" is not supported"#), "{error}");
    }
}
