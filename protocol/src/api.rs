//! Requests and answers of `backstay.v1.api.<verb>.<type>`: what programs and `backstayctl` send.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::resource::{Resource, Version, every_metadata};

/// The body of a request. Reading one is strict, since a misspelt `dry_run` must not change anything.
pub trait Request: DeserializeOwned + Default {
    /// The request with every field present: any other field is refused.
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
        json!({ "id": "", "namespace": "", "force": false, "dry_run": false })
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
    /// Ordered by id, backups newest first.
    pub items: Vec<Resource>,
    /// Where the rest begins, for the next request's `after`; empty where this is all.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub next: String,
}

/// The resources of one answer have at most this many bytes. It is less where the `max_payload` of nats-server is smaller.
pub const PAGE_BYTES: usize = 384 * 1024;
/// Bytes that an answer has in addition to its resources: field names, `next`, headers.
const PAGE_FRAME: usize = 1024;

/// Why a list cannot be answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// The item after which the list was to continue does not exist (any more). Holds its id.
    #[error("the list changed while it was read ({0:?} was deleted); start again")]
    Gone(String),
    /// One item alone does not fit into a message.
    #[error(
        "{id} alone has {bytes} bytes, and NATS accepts messages of at most {max_payload} bytes: raise max_payload in \
         nats-server's configuration (1MB by default)"
    )]
    TooLarge {
        /// The item's id.
        id: String,
        /// Its size in the answer's encoding.
        bytes: usize,
        /// The server's limit for one message, in bytes.
        max_payload: usize,
    },
}

impl GetResponse {
    /// The first items after `after` that fit into one message of at most `max_payload` bytes; at least one, if any is
    /// left. `after` is the id of an item, or empty for the beginning. `size` returns the bytes of an item in the
    /// answer's encoding.
    ///
    /// # Errors
    /// [`PageError::Gone`] if no item has the id `after`; [`PageError::TooLarge`] if the next item alone does not fit.
    ///
    /// # Examples
    /// ```
    /// use backstay_protocol::api::GetResponse;
    /// use backstay_protocol::resource::Resource;
    /// use backstay_protocol::spec::ClusterSpec;
    ///
    /// let items = ["a", "b", "c"].map(|id| Resource::of(id, &ClusterSpec::default()));
    /// let page = GetResponse::page(items.to_vec(), "", 2048, |_| 500)?;
    /// assert_eq!((page.items.len(), page.next.as_str()), (2, "b"));
    /// let rest = GetResponse::page(items.to_vec(), &page.next, 2048, |_| 500)?;
    /// assert_eq!((rest.items.len(), rest.next.as_str()), (1, ""));
    /// # Ok::<(), backstay_protocol::api::PageError>(())
    /// ```
    pub fn page(
        items: Vec<Resource>,
        after: &str,
        max_payload: usize,
        size: impl Fn(&Resource) -> usize,
    ) -> Result<Self, PageError> {
        let gone = || PageError::Gone(after.to_owned());
        let start = match after {
            "" => 0,
            id => items.iter().position(|item| item.metadata.id == id).ok_or_else(gone)? + 1,
        };
        let room = max_payload.saturating_sub(PAGE_FRAME);
        let (mut page, mut used) = (Self::default(), 0);
        for item in items.into_iter().skip(start) {
            let bytes = size(&item);
            match page.items.last() {
                None if bytes > room => {
                    return Err(PageError::TooLarge { id: item.metadata.id, bytes, max_payload });
                }
                Some(last) if used + bytes > room.min(PAGE_BYTES) => {
                    page.next.clone_from(&last.metadata.id);
                    break;
                }
                _ => {}
            }
            used += bytes;
            page.items.push(item);
        }
        Ok(page)
    }
}

/// `apply`: create the resource, or change it to this.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ApplyRequest {
    /// Its version may be left out; an older one than the server's is a conflict.
    pub resource: Resource,
    /// Check everything and answer with the result, but change nothing.
    pub dry_run: bool,
}

/// What `apply` did, or would do in a dry run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// There was no such resource.
    Created,
    /// It was different.
    Updated,
    /// It was the same already.
    #[default]
    Unchanged,
}

/// The result of `apply`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ApplyResponse {
    /// What was done, or would be done in a dry run.
    pub action: Action,
    /// The resource as it was before; absent if there was none.
    pub before: Option<Resource>,
    /// The resource as it is now, secrets hidden.
    pub resource: Resource,
    /// What the operator should know although the request succeeded; usually empty.
    pub notes: Vec<String>,
}

/// `delete`: remove one resource.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DeleteRequest {
    /// Of the resource; it must not be empty.
    pub id: String,
    /// Empty: the type's own.
    pub namespace: String,
    /// Delete a cluster although its agents are connected.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
    /// Check whether it could be deleted, but change nothing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// The result of `delete`, which says nothing more than that it succeeded.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DeleteResponse {}

/// What kind of error an answer holds. Its [`number`](Self::number) is in the header `Nats-Service-Error-Code`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// Change the request: the text says what is wrong.
    InvalidArgument,
    /// There is no such resource.
    NotFound,
    /// The resource has changed meanwhile: get it again and apply the change to that version.
    Conflict,
    /// Only the coordinator writes this type.
    ReadOnly,
    /// The KV or the store did not answer, or the coordinator is stopping: try again.
    Unavailable,
    /// A bug in the coordinator, or an answer larger than the server's `max_payload`.
    #[default]
    Internal,
}

impl ErrorCode {
    /// The status code of HTTP that comes closest, 400 to 503.
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

/// Why a request was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, thiserror::Error)]
#[error("{text}")]
pub struct ApiError {
    /// [`ErrorCode::Internal`] if the answer does not say.
    #[serde(default)]
    pub code: ErrorCode,
    /// For people; programs should look at the code only.
    #[serde(default)]
    pub text: String,
}

impl ApiError {
    /// An error of any code.
    pub fn new(code: ErrorCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    /// [`ErrorCode::InvalidArgument`].
    pub fn invalid(text: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidArgument, text)
    }

    /// [`ErrorCode::NotFound`] for a resource at this [`address`](Resource::address).
    pub fn not_found(address: &str) -> Self {
        Self::new(ErrorCode::NotFound, format!("resource {address} doesn't exist"))
    }
}

/// Checks the version that a file names: if it is older than the server's, somebody else has changed the resource since.
/// A file without a version passes.
///
/// # Errors
/// [`ErrorCode::Conflict`].
pub fn check_version(given: Version, current: u64) -> Result<(), ApiError> {
    match given {
        Version::Number(given) if given < current => Err(ApiError::new(
            ErrorCode::Conflict,
            format!(
                "the file has version {given}, but the server has version {current}: get it again and apply your \
                 change to that version"
            ),
        )),
        _ => Ok(()),
    }
}

/// An answer: either `result` or `error`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Answer<T> {
    /// Absent if the request succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ApiError>,
    /// Absent if it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<T>,
}

impl<T> Answer<T> {
    /// What the coordinator sends.
    pub fn from_result(result: Result<T, ApiError>) -> Self {
        match result {
            Ok(result) => Self { error: None, result: Some(result) },
            Err(error) => Self { error: Some(error), result: None },
        }
    }

    /// What the caller wants to know.
    ///
    /// # Errors
    /// The error in the answer, or [`ErrorCode::Internal`] if it contains neither a result nor an error.
    pub fn into_result(self) -> Result<T, ApiError> {
        match (self.error, self.result) {
            (Some(error), _) => Err(error),
            (None, Some(result)) => Ok(result),
            (None, None) => {
                Err(ApiError::new(ErrorCode::Internal, "the answer contains neither a result nor an error"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::Metadata;

    fn items(count: usize, bytes: usize) -> Vec<Resource> {
        let item = |n: usize| Resource {
            metadata: Metadata { id: format!("backup-{n:05}"), ..Metadata::default() },
            spec: serde_json::json!({ "snapshot": "x".repeat(bytes) }),
        };
        (0..count).map(item).collect()
    }

    fn size(item: &Resource) -> usize {
        serde_json::to_vec(item).expect("plain data").len() + 1
    }

    #[test]
    fn pages_hold_everything_once_and_in_order_and_fit_the_message() {
        let all = items(2_500, 400);
        for (max_payload, more_than) in [(1024 * 1024, 1), (64 * 1024, 10), (4 * 1024, 100)] {
            let (mut collected, mut after, mut pages) = (Vec::new(), String::new(), 0);
            loop {
                let page = GetResponse::page(all.clone(), &after, max_payload, size).expect("each fits");
                let whole = serde_json::to_vec(&Answer::from_result(Ok(page.clone()))).expect("plain data").len();
                assert!(whole <= max_payload.min(PAGE_BYTES + PAGE_FRAME), "{whole} bytes for {max_payload}");
                collected.extend(page.items);
                pages += 1;
                after = page.next;
                if after.is_empty() {
                    break;
                }
            }
            assert_eq!(collected, all);
            assert!(pages > more_than, "{pages} pages");
        }
        let gone = GetResponse::page(all, "gone", 1024 * 1024, size).expect_err("nowhere");
        assert_eq!(gone.to_string(), "the list changed while it was read (\"gone\" was deleted); start again");
        assert_eq!(GetResponse::page(Vec::new(), "", 1024, size), Ok(GetResponse::default()));
    }

    #[test]
    fn an_item_that_fits_no_message_is_named_and_one_that_fits_no_page_is_sent_alone() {
        let mut all = items(3, 400);
        all[1].spec = serde_json::json!({ "text": "x".repeat(100_000) });
        let page = |after: &str, max_payload| GetResponse::page(all.clone(), after, max_payload, size);
        let first = page("", 64 * 1024).expect("it fits");
        assert_eq!((first.items.len(), first.next.as_str()), (1, "backup-00000"));
        let error = page(&first.next, 64 * 1024).expect_err("it fits no message").to_string();
        assert!(error.starts_with("backup-00001 alone has 100") && error.contains("65536"), "{error}");
        assert_eq!(page("backup-00001", 64 * 1024).expect("the rest").items.len(), 1);

        all[1].spec = serde_json::json!({ "text": "x".repeat(PAGE_BYTES + 1) });
        let alone = GetResponse::page(all.clone(), "backup-00000", 1024 * 1024, size).expect("it fits");
        assert_eq!((alone.items.len(), alone.next.as_str()), (1, "backup-00001"));
    }
}
