//! A resource: metadata and spec, as the coordinator keeps it and `backstayctl get` shows it.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::time::Timestamp;

/// The label that names the cluster that a resource belongs to.
pub const LABEL_CLUSTER: &str = "omni.sidero.dev/cluster";
/// The label that names that cluster's UUID.
pub const LABEL_CLUSTER_UUID: &str = "omni.sidero.dev/cluster-uuid";

/// How often a resource changed, counted from 1; what is read from a store has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Version {
    #[default]
    Undefined,
    Number(u64),
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Undefined => f.write_str("undefined"),
            Self::Number(n) => n.fmt(f),
        }
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Undefined => serializer.serialize_str("undefined"),
            Self::Number(n) => serializer.serialize_u64(*n),
        }
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Raw {
            Whole(u64),
            // Protobuf's `Value` knows floating-point numbers only.
            Float(f64),
            Text(String),
        }
        match Raw::deserialize(deserializer)? {
            Raw::Whole(n) => Ok(Self::Number(n)),
            Raw::Float(n) if n >= 0.0 && n.fract() == 0.0 => Ok(Self::Number(n as u64)),
            Raw::Text(text) if text.is_empty() || text == "undefined" => Ok(Self::Undefined),
            Raw::Text(text) => {
                text.parse().map(Self::Number).map_err(|_| serde::de::Error::custom("version must be a number"))
            }
            Raw::Float(_) => Err(serde::de::Error::custom("version must be a whole number")),
        }
    }
}

/// What a resource is called and how it came about. A field that a file leaves out is the server's to fill.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Metadata {
    pub namespace: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub id: String,
    #[serde(deserialize_with = "nullable")]
    pub version: Version,
    #[serde(deserialize_with = "nullable")]
    pub owner: String,
    #[serde(deserialize_with = "nullable")]
    pub phase: String,
    /// RFC 3339 in UTC, seconds only; absent where nobody keeps it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updated: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "nullable_values")]
    pub labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "nullable_values")]
    pub annotations: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub finalizers: Vec<String>,
}

/// Metadata with every field present.
pub fn every_metadata() -> Value {
    let any = || BTreeMap::from([("any".to_owned(), String::new())]);
    // Without `..`: a new field must be added here too.
    let all = Metadata {
        namespace: String::new(),
        kind: String::new(),
        id: String::new(),
        version: Version::Undefined,
        owner: String::new(),
        phase: String::new(),
        created: Some(String::new()),
        updated: Some(String::new()),
        labels: any(),
        annotations: any(),
        finalizers: vec![String::new()],
    };
    let mut value = serde_json::to_value(all).expect("metadata is plain data");
    // Their keys are free.
    for map in ["labels", "annotations"] {
        value[map] = Value::Null;
    }
    value
}

/// YAML writes an empty scalar bare, which reads back as null: take it for the empty value.
fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn nullable_values<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    let map: BTreeMap<String, Option<String>> = nullable(deserializer)?;
    Ok(map.into_iter().map(|(k, v)| (k, v.unwrap_or_default())).collect())
}

impl Metadata {
    /// Stamps creation or update: `created` stays, `updated` moves, the version becomes `version`.
    pub fn stamp(&mut self, version: u64, created: Timestamp, updated: Timestamp) {
        self.version = Version::Number(version);
        self.phase = "running".into();
        self.created = Some(created.rfc3339());
        self.updated = Some(updated.rfc3339());
    }
}

/// Metadata and spec; the spec's shape is the type's (see [`crate::spec`]).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Resource {
    pub metadata: Metadata,
    #[serde(default)]
    pub spec: Value,
}

impl Resource {
    /// `TYPE(NAMESPACE/ID)`, as errors and diffs name a resource.
    pub fn address(&self) -> String {
        let m = &self.metadata;
        format!("{}({}/{})", m.kind, m.namespace, m.id)
    }

    /// The spec as the type's own struct.
    pub fn typed<S: crate::spec::Spec>(&self) -> Result<S, serde_json::Error> {
        S::deserialize(&self.spec)
    }

    /// A resource of the type that `S` is the spec of, in its default namespace.
    pub fn of<S: crate::spec::Spec>(id: impl Into<String>, spec: &S) -> Self {
        let definition = S::definition();
        Self {
            metadata: Metadata {
                namespace: definition.namespace.into(),
                kind: definition.name.into(),
                id: id.into(),
                owner: definition.owner.unwrap_or_default().into(),
                phase: "running".into(),
                ..Metadata::default()
            },
            // A spec is plain data with text keys: JSON can hold every one of them.
            spec: serde_json::to_value(spec).expect("a spec is plain data"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_scalars_are_empty() {
        let metadata: Metadata = serde_json::from_str(
            r#"{"namespace":"default","type":"T","id":"i","version":null,"owner":null,"labels":{"a":null}}"#,
        )
        .expect("nulls are empty values");
        assert_eq!(metadata.version, Version::Undefined);
        assert_eq!(metadata.labels["a"], "");
    }
}
