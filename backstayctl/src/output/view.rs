//! What `-o` and `--no-headers` select.

use std::str::FromStr;

use super::jsonpath::{JsonPath, PathError};

/// The form that `-o` selects.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Format {
    #[default]
    Table,
    /// A table with all columns, complete ids and complete times, of any width.
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
            Some(("jsonpath", path)) => path.parse().map(Self::Field).map_err(|e: PathError| e.to_string()),
            _ => Err(format!(
                "output format {text:?} is not supported: use table, wide, name, yaml, json or jsonpath='{{.spec.FIELD}}'"
            )),
        }
    }
}

/// The selected form, and whether tables have a heading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    pub format: Format,
    pub headings: bool,
    /// Whether tables are made to fit a terminal. Names are never cut in a pipe or a file.
    pub fits: bool,
}

impl Default for View {
    fn default() -> Self {
        Self::from(Format::default())
    }
}

impl From<Format> for View {
    fn from(format: Format) -> Self {
        Self { format, headings: true, fits: true }
    }
}

impl View {
    /// Whether a table has all columns.
    pub fn is_wide(&self) -> bool {
        self.format == Format::Wide
    }
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
