//! Files of resources: every document is read and checked before any is sent.

use std::collections::HashMap;
use std::io::Read;
use std::path::PathBuf;

use backstay_protocol::fields;
use backstay_protocol::resource::{Metadata, Resource};
use backstay_protocol::types::{self, TypeDefinition};
use backstay_protocol::validate::nearest;
use serde_json::{Map, Value};

use super::files::{self, FileError};
use super::reader::shape::Shape;
use super::reader::{self, Kind, Node, Problem};

/// A resource and where it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    pub file: String,
    pub line: usize,
    pub definition: &'static TypeDefinition,
    pub resource: Resource,
}

/// Why a document was not applied. There is no address if the document has none that can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentError {
    pub file: String,
    pub address: Option<String>,
    pub reason: String,
}

impl std::error::Error for DocumentError {}

impl std::fmt::Display for DocumentError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "failed to apply {}: ", self.file)?;
        if let Some(address) = &self.address {
            write!(f, "{address}: ")?;
        }
        f.write_str(&self.reason)
    }
}

impl From<FileError> for DocumentError {
    fn from(error: FileError) -> Self {
        Self { file: error.file, address: None, reason: error.reason }
    }
}

/// The resources in all of `sources`, in their order.
///
/// # Errors
/// A file cannot be read or is invalid, a resource occurs twice, or there is none at all.
pub fn load(sources: &[PathBuf], stdin: &mut dyn Read) -> Result<Vec<Document>, DocumentError> {
    let mut documents = Vec::new();
    for source in sources {
        for path in files::expand(source)? {
            let text = files::read(&path, stdin)?;
            documents.extend(parse(&text.file, &text.text)?);
        }
    }
    if documents.is_empty() {
        let file = sources.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ");
        return Err(DocumentError { file, address: None, reason: "it contains no resource".into() });
    }
    refuse_twins(&documents)?;
    Ok(documents)
}

/// The resources of one text; `file` is for errors.
///
/// # Errors
/// It is not YAML, or a document is not a resource that may be applied; with the line.
pub fn parse(file: &str, text: &str) -> Result<Vec<Document>, DocumentError> {
    let error = |address: Option<String>, problem: Problem| DocumentError {
        file: file.to_owned(),
        address,
        reason: problem.to_string(),
    };
    let nodes = reader::documents(text).map_err(|problem| error(None, problem))?;
    let document = |node: &Node| {
        let definition = definition(node).map_err(|problem| error(None, problem))?;
        let resource = resource(node, definition).map_err(|problem| error(address(node, definition), problem))?;
        Ok(Document { file: file.to_owned(), line: node.line, definition, resource })
    };
    nodes.iter().map(document).collect()
}

/// Refuses two documents for one resource, since only one of them can be intended.
fn refuse_twins(documents: &[Document]) -> Result<(), DocumentError> {
    let mut seen: HashMap<String, &Document> = HashMap::new();
    for document in documents {
        let address = document.resource.address();
        if let Some(first) = seen.insert(address.clone(), document) {
            let reason = format!(
                "line {}: this resource was already given in {} on line {}",
                document.line, first.file, first.line
            );
            return Err(DocumentError { file: document.file.clone(), address: Some(address), reason });
        }
    }
    Ok(())
}

fn metadata_text<'n>(node: &'n Node, key: &str) -> Option<&'n str> {
    node.get("metadata").and_then(|m| m.get(key)).and_then(Node::text)
}

fn definition(node: &Node) -> Result<&'static TypeDefinition, Problem> {
    if !matches!(node.kind, Kind::Map(_)) {
        return Err(Problem::new(node.line, "a resource must be a map with metadata and spec"));
    }
    let Some(name) = metadata_text(node, "type") else {
        // A misspelt `metadata` or `type` is told as what it is.
        Shape::fields([("metadata", metadata_shape()), ("spec", Shape::Any)]).value(node, "")?;
        return Err(Problem::new(node.line, "metadata.type is missing, for example Clusters.omni.sidero.dev"));
    };
    types::by_full_name(name).ok_or_else(|| {
        let line = node.get("metadata").and_then(|m| m.get("type")).map_or(node.line, |t| t.line);
        let meant = match types::resolve(name) {
            Ok(definition) => Some(definition.name.to_owned()),
            Err(_) => nearest(name, types::ALL.iter().map(|d| d.name)),
        };
        let hint = meant.map(|m| format!(": did you mean {m:?}?")).unwrap_or_default();
        Problem::new(line, format!("unknown type {name:?} (metadata.type){hint}"))
    })
}

/// `TYPE(NAMESPACE/ID)` as far as the document has them.
fn address(node: &Node, definition: &TypeDefinition) -> Option<String> {
    let id = metadata_text(node, "id")?;
    let namespace = metadata_text(node, "namespace").unwrap_or(definition.namespace);
    Some(format!("{}({namespace}/{id})", definition.name))
}

fn resource(node: &Node, definition: &TypeDefinition) -> Result<Resource, Problem> {
    let shape = Shape::fields([("metadata", metadata_shape()), ("spec", Shape::of(&fields::every_field(definition)))]);
    let mut value = shape.value(node, "")?.unwrap_or_default();
    let mut take = |key: &str| value.get_mut(key).map(Value::take).unwrap_or_else(|| Value::Object(Map::new()));
    let mut metadata: Metadata = serde_json::from_value(take("metadata"))
        .map_err(|e| Problem::new(node.get("metadata").map_or(node.line, |m| m.line), format!("metadata: {e}")))?;
    if metadata.id.is_empty() {
        return Err(Problem::new(node.line, "metadata.id is missing"));
    }
    if metadata.namespace.is_empty() {
        metadata.namespace = definition.namespace.to_owned();
    }
    Ok(Resource { metadata, spec: take("spec") })
}

fn metadata_shape() -> Shape {
    let text = ["namespace", "type", "id", "version", "owner", "phase", "created", "updated"];
    let maps = [("labels", Shape::texts()), ("annotations", Shape::texts()), ("finalizers", Shape::list(Shape::Text))];
    Shape::fields(text.map(|name| (name, Shape::Text)).into_iter().chain(maps))
}

#[cfg(test)]
#[path = "documents_tests.rs"]
mod tests;
