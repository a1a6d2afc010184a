//! What is stored of a resource: its spec, and what its metadata needs.

use std::collections::BTreeMap;

use backstay_protocol::Timestamp;
use backstay_protocol::resource::{Metadata, Resource};
use backstay_protocol::spec::Spec;
use serde::{Deserialize, Serialize};

/// A spec, and what the metadata of its resource needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kept<S> {
    pub version: u64,
    pub created: Timestamp,
    pub updated: Timestamp,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    #[serde(default)]
    pub finalizers: Vec<String>,
    pub spec: S,
}

impl<S: Spec> Kept<S> {
    pub fn new(spec: S, now: Timestamp) -> Self {
        Self {
            version: 1,
            created: now,
            updated: now,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            finalizers: Vec::new(),
            spec,
        }
    }

    /// Changes the spec; the version rises only if something changed.
    pub fn set(&mut self, spec: S, now: Timestamp) -> bool {
        let changed = self.spec != spec;
        if changed {
            self.spec = spec;
            self.touch(now);
        }
        changed
    }

    /// Changes the resource to what a file says; the version rises only if something changed.
    pub fn configure(&mut self, spec: S, meta: Meta, now: Timestamp) -> bool {
        let changed = self.spec != spec
            || (&self.labels, &self.annotations, &self.finalizers)
                != (&meta.labels, &meta.annotations, &meta.finalizers);
        if changed {
            self.spec = spec;
            (self.labels, self.annotations, self.finalizers) = (meta.labels, meta.annotations, meta.finalizers);
            self.touch(now);
        }
        changed
    }

    fn touch(&mut self, now: Timestamp) {
        self.version += 1;
        self.updated = now;
    }

    /// As people see it.
    pub fn resource(&self, id: impl Into<String>) -> Resource {
        let mut resource = Resource::of(id, &self.spec);
        resource.metadata.stamp(self.version, self.created, self.updated);
        resource.metadata.labels.clone_from(&self.labels);
        resource.metadata.annotations.clone_from(&self.annotations);
        resource.metadata.finalizers.clone_from(&self.finalizers);
        resource
    }
}

/// What a file says of a resource besides its spec.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Meta {
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub finalizers: Vec<String>,
}

impl Meta {
    pub fn of(metadata: &Metadata) -> Self {
        Self {
            labels: metadata.labels.clone(),
            annotations: metadata.annotations.clone(),
            finalizers: metadata.finalizers.clone(),
        }
    }
}
