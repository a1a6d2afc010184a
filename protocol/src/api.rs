//! Requests and answers of `backstay.v1.api.<verb>.<type>`: what programs and `backstayctl` send.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::resource::{Resource, Version, every_metadata};

/// What a program may ask. A request is strict: a misspelt `dry_run` must not change anything.
pub trait Request: DeserializeOwned + Default {
    /// The request with every field present.
    fn every_field() -> Value;
}

impl Request for GetRequest {
    fn every_field() -> Value {
        json!({ "id": "", "namespace": "", "selector": "", "after": "" })
    }
}

impl Request for ApplyRequest {
    fn every_field() -> Value {
        // What may stand in a spec is the type's to say.
        json!({ "resource": { "metadata": every_metadata(), "spec": null }, "dry_run": false })
    }
}

impl Request for DeleteRequest {
    fn every_field() -> Value {
        json!({ "id": "", "namespace": "" })
    }
}

/// `get`: one resource by id, or all of the type.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct GetRequest {
    /// Empty: all.
    pub id: String,
    /// Empty: the type's own.
    pub namespace: String,
    /// A label selector (see [`crate::selector`]); empty selects all.
    pub selector: String,
    /// Go on after the item with this id: what an earlier answer's `next` said. Empty: from the beginning.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub after: String,
}

/// One answer's worth of resources: an answer must fit one message of the bus.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct GetResponse {
    pub items: Vec<Resource>,
    /// Where the rest begins, for the next request's `after`; empty where this is all.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub next: String,
}

/// The resources of one answer have at most about this many bytes as JSON, in each encoding less than the
/// mebibyte that NATS allows by default.
pub const PAGE_BYTES: usize = 384 * 1024;

impl GetResponse {
    /// The first items after `after` that fit one answer; at least one, where any is left. `None` where no
    /// item has that id (any more).
    pub fn page(items: Vec<Resource>, after: &str) -> Option<Self> {
        let start = match after {
            "" => 0,
            id => items.iter().position(|item| item.metadata.id == id)? + 1,
        };
        let mut bytes = 0;
        let mut rest = items.into_iter().skip(start).peekable();
        let mut page = Self::default();
        while let Some(item) = rest.next() {
            bytes += serde_json::to_vec(&item).map_or(PAGE_BYTES, |json| json.len());
            let last = item.metadata.id.clone();
            page.items.push(item);
            if bytes >= PAGE_BYTES && rest.peek().is_some() {
                page.next = last;
                break;
            }
        }
        Some(page)
    }
}

/// `apply`: create the resource or make it what is given.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ApplyRequest {
    pub resource: Resource,
    /// Check everything and answer what would become of it, but change nothing.
    pub dry_run: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    Created,
    Updated,
    #[default]
    Unchanged,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ApplyResponse {
    pub action: Action,
    /// What was there before; absent where nothing was.
    pub before: Option<Resource>,
    pub resource: Resource,
    /// What the operator should know although it worked.
    pub notes: Vec<String>,
}

/// `delete`: remove one resource.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DeleteRequest {
    pub id: String,
    pub namespace: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DeleteResponse {}

/// What kind of error an answer holds. The number stands in the `Nats-Service-Error-Code` header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    InvalidArgument,
    NotFound,
    Conflict,
    ReadOnly,
    Unavailable,
    #[default]
    Internal,
}

impl ErrorCode {
    /// In the manner of HTTP.
    pub fn number(self) -> usize {
        match self {
            Self::InvalidArgument => 400,
            Self::ReadOnly => 403,
            Self::NotFound => 404,
            Self::Conflict => 409,
            Self::Internal => 500,
            Self::Unavailable => 503,
        }
    }
}

/// Why a request was not done.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, thiserror::Error)]
#[error("{text}")]
pub struct ApiError {
    #[serde(default)]
    pub code: ErrorCode,
    #[serde(default)]
    pub text: String,
}

impl ApiError {
    pub fn new(code: ErrorCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    pub fn invalid(text: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidArgument, text)
    }

    pub fn not_found(address: &str) -> Self {
        Self::new(ErrorCode::NotFound, format!("resource {address} doesn't exist"))
    }
}

/// A file that names an older version than the server's was made from something that changed since.
///
/// # Errors
/// A conflict.
pub fn check_version(given: Version, current: u64) -> Result<(), ApiError> {
    match given {
        Version::Number(given) if given < current => Err(ApiError::new(
            ErrorCode::Conflict,
            format!(
                "the file has version {given}, the server has version {current}: get it again and apply your change to that"
            ),
        )),
        _ => Ok(()),
    }
}

/// An answer: `result`, or `error`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Answer<T> {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ApiError>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<T>,
}

impl<T> Answer<T> {
    pub fn from_result(result: Result<T, ApiError>) -> Self {
        match result {
            Ok(result) => Self { error: None, result: Some(result) },
            Err(error) => Self { error: Some(error), result: None },
        }
    }

    pub fn into_result(self) -> Result<T, ApiError> {
        match (self.error, self.result) {
            (Some(error), _) => Err(error),
            (None, Some(result)) => Ok(result),
            (None, None) => Err(ApiError::new(ErrorCode::Internal, "the answer holds neither a result nor an error")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::Metadata;

    #[test]
    fn pages_hold_everything_once_and_in_order() {
        let item = |n: usize| Resource {
            metadata: Metadata { id: format!("backup-{n:05}"), ..Metadata::default() },
            spec: serde_json::json!({ "snapshot": "x".repeat(400) }),
        };
        let all: Vec<Resource> = (0..2_500).map(item).collect();
        let (mut collected, mut after, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let page = GetResponse::page(all.clone(), &after).expect("the id is there");
            assert!(serde_json::to_vec(&page).expect("plain data").len() < 2 * PAGE_BYTES);
            collected.extend(page.items);
            pages += 1;
            after = page.next;
            if after.is_empty() {
                break;
            }
        }
        assert_eq!(collected, all);
        assert!(pages > 1);
        assert_eq!(GetResponse::page(all, "gone"), None);
        assert_eq!(GetResponse::page(Vec::new(), ""), Some(GetResponse::default()));
    }
}
