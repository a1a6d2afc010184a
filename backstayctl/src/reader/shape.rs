//! What a document may contain: its fields, and which values each may have.
//!
//! A shape turns a tree into a JSON value and refuses, with line and name, what does not belong there.

use backstay_protocol::validate::{UnknownField, nearest};
use serde_json::{Map, Value};

use super::scalar;
use super::{Kind, Node, Problem};

/// The shape of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// Anything.
    Any,
    /// Text. An unquoted number or boolean is taken as it is written; an empty value is an empty text.
    Text,
    Number,
    Switch,
    List(Box<Shape>),
    /// These fields and no others.
    Fields(Vec<(String, Shape)>),
    /// Any keys, values of one shape.
    Keys(Box<Shape>),
    /// A field that is refused, with the reason.
    Refused(&'static str),
}

impl Shape {
    /// From a value with every field present, such as the protocol has for each type's spec.
    pub fn of(full: &Value) -> Self {
        match full {
            Value::Null => Self::Any,
            Value::Bool(_) => Self::Switch,
            Value::Number(_) => Self::Number,
            Value::String(_) => Self::Text,
            Value::Array(items) => Self::List(Box::new(items.first().map_or(Self::Any, Self::of))),
            Value::Object(fields) => Self::Fields(fields.iter().map(|(k, v)| (k.clone(), Self::of(v))).collect()),
        }
    }

    pub fn fields<'a>(fields: impl IntoIterator<Item = (&'a str, Shape)>) -> Self {
        Self::Fields(fields.into_iter().map(|(name, shape)| (name.to_owned(), shape)).collect())
    }

    pub fn list(of: Shape) -> Self {
        Self::List(Box::new(of))
    }

    /// Labels and annotations: any keys, text values.
    pub fn texts() -> Self {
        Self::Keys(Box::new(Self::Text))
    }

    /// The value of `node`; `path` names it in errors. `None`: it is null, which means the same as if it were absent.
    ///
    /// # Errors
    /// The node does not have this shape; with its line.
    pub fn value(&self, node: &Node, path: &str) -> Result<Option<Value>, Problem> {
        if let Self::Refused(reason) = self {
            return Err(Problem::new(node.line, format!("{path}: {reason}")));
        }
        if *self == Self::Text {
            return text(node, path).map(Some);
        }
        if node.is_null() {
            return Ok((*self == Self::Any).then_some(Value::Null));
        }
        match (self, &node.kind) {
            (Self::Any | Self::Number | Self::Switch, Kind::Scalar { text, plain }) => {
                self.scalar(text, *plain, node.line, path).map(Some)
            }
            (Self::List(of), Kind::List(items)) => list(of, items, path).map(Some),
            (Self::Any, Kind::List(items)) => list(&Self::Any, items, path).map(Some),
            (Self::Fields(_) | Self::Keys(_) | Self::Any, Kind::Map(_)) => self.map(node, path).map(Some),
            _ => Err(Problem::new(node.line, format!("{path} must be {}{}", self.name(), example(path)))),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Any => "a value",
            Self::Text => "a string",
            Self::Number => "a number",
            Self::Switch => "true or false",
            Self::List(_) => "a list",
            Self::Fields(_) | Self::Keys(_) => "a map",
            Self::Refused(_) => "absent",
        }
    }

    fn scalar(&self, text: &str, plain: bool, line: usize, path: &str) -> Result<Value, Problem> {
        let value = match plain {
            true => scalar::resolve(text).map_err(|_| {
                Problem::new(line, format!("{path} is a number that is too large; quote it if it is meant as a string"))
            })?,
            false => Value::String(text.to_owned()),
        };
        let fits = match self {
            Self::Number => value.is_number(),
            Self::Switch => value.is_boolean(),
            _ => true,
        };
        if fits { Ok(value) } else { Err(Problem::new(line, format!("{path} must be {}", self.name()))) }
    }

    fn map(&self, node: &Node, path: &str) -> Result<Value, Problem> {
        let Kind::Map(entries) = &node.kind else {
            return Err(Problem::new(node.line, format!("{path} must be a map{}", example(path))));
        };
        let mut map = Map::new();
        for entry in entries {
            let path = if path.is_empty() { entry.key.clone() } else { format!("{path}.{}", entry.key) };
            let shape = self.field(&entry.key, &path).map_err(|e| Problem::new(entry.line, e.to_string()))?;
            if let Some(value) = shape.value(&entry.value, &path)? {
                map.insert(entry.key.clone(), value);
            }
        }
        Ok(Value::Object(map))
    }

    fn field(&self, name: &str, path: &str) -> Result<&Shape, UnknownField> {
        match self {
            Self::Fields(fields) => {
                let found = fields.iter().find(|(known, _)| known == name).map(|(_, shape)| shape);
                found.ok_or_else(|| UnknownField {
                    path: path.to_owned(),
                    name: name.to_owned(),
                    nearest: nearest(name, wanted(fields)),
                })
            }
            Self::Keys(of) => Ok(of),
            _ => Ok(&Self::Any),
        }
    }
}

/// The fields that the person may have meant.
fn wanted(fields: &[(String, Shape)]) -> impl Iterator<Item = &str> {
    fields.iter().filter(|(_, shape)| !matches!(shape, Shape::Refused(_))).map(|(name, _)| name.as_str())
}

fn text(node: &Node, path: &str) -> Result<Value, Problem> {
    match &node.kind {
        Kind::Scalar { .. } if node.is_null() => Ok(Value::String(String::new())),
        Kind::Scalar { text, .. } => Ok(Value::String(text.clone())),
        _ => Err(Problem::new(node.line, format!("{path} must be a string"))),
    }
}

fn list(of: &Shape, items: &[Node], path: &str) -> Result<Value, Problem> {
    let value = |(at, item): (usize, &Node)| {
        let path = format!("{path}[{at}]");
        of.value(item, &path)?.ok_or_else(|| Problem::new(item.line, format!("{path} must be {}", of.name())))
    };
    items.iter().enumerate().map(value).collect::<Result<Vec<_>, _>>().map(Value::Array)
}

/// What is written in place of a duration such as `1h`, as a template takes it.
fn example(path: &str) -> &'static str {
    if path.ends_with("backupconfiguration.interval") { ", such as {seconds: 3600} for 1h" } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::documents;
    use backstay_protocol::{fields, types};
    use serde_json::json;

    fn read(shape: &Shape, text: &str) -> Result<Option<Value>, String> {
        let documents = documents(text).map_err(|e| e.to_string())?;
        shape.value(&documents[0], "spec").map_err(|e| e.to_string())
    }

    fn s3() -> Shape {
        Shape::of(&fields::every_field(&types::ETCD_BACKUP_S3_CONFIGS))
    }

    #[test]
    fn text_fields_take_numbers_by_their_spelling() {
        let text = "bucket: 0123\nregion: 1.10\nendpoint: true\naccesskeyid:\nsessiontoken: \"\"\n";
        let value =
            json!({"bucket": "0123", "region": "1.10", "endpoint": "true", "accesskeyid": "", "sessiontoken": ""});
        assert_eq!(read(&s3(), text), Ok(Some(value)));
        assert_eq!(read(&s3(), "bucket: [a]\n"), Err("line 1: spec.bucket must be a string".into()));
    }

    #[test]
    fn a_misspelt_field_names_its_line_and_the_nearest() {
        assert_eq!(
            read(&s3(), "bucket: b\naccessKeyID: x\n"),
            Err(r#"line 2: unknown field "accessKeyID" (spec.accessKeyID): did you mean "accesskeyid"?"#.into())
        );
        assert_eq!(read(&s3(), "zzz: x\n"), Err(r#"line 1: unknown field "zzz" (spec.zzz)"#.into()));
    }

    #[test]
    fn each_field_holds_what_it_should() {
        let cluster = Shape::of(&fields::every_field(&types::CLUSTERS));
        let text = "features:\n  diskencryption: true\nbackupconfiguration:\n  interval: {seconds: 3600, nanos: 0}\n";
        let value = json!({"features": {"diskencryption": true}, "backupconfiguration": {"interval": {"seconds": 3600, "nanos": 0}}});
        assert_eq!(read(&cluster, text), Ok(Some(value)));
        for (text, error) in [
            (
                "backupconfiguration:\n  interval: 1h\n",
                "line 2: spec.backupconfiguration.interval must be a map, such as {seconds: 3600} for 1h",
            ),
            ("features:\n  diskencryption: yes\n", "line 2: spec.features.diskencryption must be true or false"),
            (
                "backupconfiguration:\n  interval:\n    seconds: '1'\n",
                "line 3: spec.backupconfiguration.interval.seconds must be a number",
            ),
            (
                "backupconfiguration:\n  interval:\n    seconds: .nan\n",
                "line 3: spec.backupconfiguration.interval.seconds is a number that is too large; quote it if it is meant as a string",
            ),
        ] {
            assert_eq!(read(&cluster, text), Err(error.into()));
        }
    }

    #[test]
    fn nothing_is_as_if_absent() {
        let cluster = Shape::of(&fields::every_field(&types::CLUSTERS));
        assert_eq!(read(&cluster, "features:\nbackupconfiguration: null\n"), Ok(Some(json!({}))));
        let lists = Shape::list(Shape::Number);
        assert_eq!(read(&lists, "- 1\n-\n"), Err("line 2: spec[1] must be a number".into()));
    }
}
