//! A resource: metadata and spec, as the coordinator keeps it and `backstayctl get` shows it.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::time::Timestamp;

/// The label with the name of the cluster that a resource belongs to. It is Omni's label, so that templates and selectors
/// made for Omni work.
pub const LABEL_CLUSTER: &str = "omni.sidero.dev/cluster";
/// The label with that cluster's UUID; also Omni's.
pub const LABEL_CLUSTER_UUID: &str = "omni.sidero.dev/cluster-uuid";

/// How often a resource has been changed, counted from 1. Written as a number, or as `undefined`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Version {
    /// The resource comes from the store, where nobody counts, or a file leaves the version out.
    #[default]
    Undefined,
    /// 1 for a resource that was never changed.
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

/// What a resource is called, and when it was changed. The server fills in what a file leaves out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Metadata {
    /// `default`, `ephemeral` or `external`: the one of its type.
    pub namespace: String,
    /// The full name of its [type](crate::types), e.g. `Clusters.omni.sidero.dev`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Unique within its type.
    pub id: String,
    /// A file with an older version than the server's is a conflict.
    #[serde(deserialize_with = "nullable")]
    pub version: Version,
    /// The controller that writes it; empty for a resource that people may write.
    #[serde(deserialize_with = "nullable")]
    pub owner: String,
    /// Always `running`. Omni has another one, for resources that are being deleted.
    #[serde(deserialize_with = "nullable")]
    pub phase: String,
    /// RFC 3339 in UTC, seconds only; absent if it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// As `created`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updated: Option<String>,
    /// What [selectors](crate::selector) look at; [`LABEL_CLUSTER`] is among them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "nullable_values")]
    pub labels: BTreeMap<String, String>,
    /// Kept and shown; nothing depends on them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "nullable_values")]
    pub annotations: BTreeMap<String, String>,
    /// Kept and shown; nothing depends on them.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub finalizers: Vec<String>,
}

/// Metadata with every field present: any other field is refused. Labels and annotations are null, since their keys are
/// free.
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

/// An empty scalar in YAML has no text at all and reads as null: it means the empty value.
fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn nullable_values<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    let map: BTreeMap<String, Option<String>> = nullable(deserializer)?;
    Ok(map.into_iter().map(|(k, v)| (k, v.unwrap_or_default())).collect())
}

impl Metadata {
    /// Records that the server created or changed it. `version` counts from 1.
    pub fn stamp(&mut self, version: u64, created: Timestamp, updated: Timestamp) {
        self.version = Version::Number(version);
        self.phase = "running".into();
        self.created = Some(created.rfc3339());
        self.updated = Some(updated.rfc3339());
    }
}

/// Metadata and spec; the fields of the spec depend on the type (see [`crate::spec`]).
///
/// # Examples
/// ```
/// use backstay_protocol::resource::Resource;
/// use backstay_protocol::spec::{BackupConfiguration, ClusterSpec};
/// use std::time::Duration;
///
/// let interval = Some(Duration::from_secs(3600).into());
/// let spec = ClusterSpec {
///     backupconfiguration: Some(BackupConfiguration { interval, enabled: None }),
///     ..ClusterSpec::default()
/// };
/// let resource = Resource::of("talos-default", &spec);
/// assert_eq!(resource.address(), "Clusters.omni.sidero.dev(default/talos-default)");
/// let json = serde_json::to_value(&resource)?;
/// assert_eq!(json["spec"]["backupconfiguration"]["interval"]["seconds"], 3600);
///
/// // The same structure is what YAML files have.
/// let read: Resource = serde_json::from_value(json)?;
/// assert_eq!(read.typed::<ClusterSpec>()?.backup_interval(), Some(Duration::from_secs(3600)));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Resource {
    /// What it is called.
    pub metadata: Metadata,
    /// What it says; null if a file has none.
    #[serde(default)]
    pub spec: Value,
}

impl Resource {
    /// `TYPE(NAMESPACE/ID)`, as errors and diffs name a resource.
    pub fn address(&self) -> String {
        let m = &self.metadata;
        format!("{}({}/{})", m.kind, m.namespace, m.id)
    }

    /// The same with [`LABEL_CLUSTER`].
    pub fn in_cluster(mut self, cluster: impl Into<String>) -> Self {
        self.metadata.labels.insert(LABEL_CLUSTER.into(), cluster.into());
        self
    }

    /// The spec as the type's own struct. Unknown fields are ignored.
    ///
    /// # Errors
    /// A field has a value of the wrong type.
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
