//! What every kind of resource needs: reading the request, finding its cluster, telling the cluster's task, and answering.

use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use backstay_archive::Manifest;
use backstay_protocol::api::{Action, ApiError, ApplyResponse, ErrorCode};
use backstay_protocol::bus::FIRST_BEATS;
use backstay_protocol::resource::Resource;
use backstay_protocol::spec::Spec;
use backstay_protocol::types::TypeDefinition;
use backstay_protocol::{ClusterName, ClusterUuid};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::directory::{Handle, Message, Reply};
use crate::keys::KeyError;
use crate::kv::KvError;
use crate::latest::{self, NotFound, SnapshotSelector};
use crate::record::ClusterRecord;
use crate::storage::ActiveStore;
use crate::term::Term;

/// How long the store and the KV may take to give a backup's key.
const KEY_TIMEOUT: Duration = Duration::from_secs(15);

/// The spec of a resource.
pub fn typed<S: Spec>(resource: &Resource) -> Result<S, ApiError> {
    if !resource.spec.is_object() {
        return Err(ApiError::invalid("spec must be a map"));
    }
    resource.typed().map_err(|e| ApiError::invalid(format!("spec: {e}")))
}

/// A request that makes no sense.
pub fn invalid(error: impl Display) -> ApiError {
    ApiError::invalid(error.to_string())
}

/// The KV did not answer; the caller may try again.
pub fn unavailable(error: &KvError) -> ApiError {
    ApiError::new(ErrorCode::Unavailable, error.to_string())
}

/// Only its owner may write it.
pub fn read_only(definition: &TypeDefinition) -> ApiError {
    ApiError::new(ErrorCode::ReadOnly, format!("{} is read-only", definition.name))
}

/// There is no such resource.
pub fn missing(definition: &TypeDefinition, id: &str) -> ApiError {
    ApiError::not_found(&format!("{}({}/{id})", definition.name, definition.namespace))
}

/// Whether a request means `definition`'s own namespace.
pub fn in_namespace(definition: &TypeDefinition, namespace: &str) -> bool {
    namespace.is_empty() || namespace == definition.namespace
}

/// The response to a resource that was applied.
pub fn answer(before: Option<Resource>, resource: Resource, notes: Vec<String>) -> ApplyResponse {
    let action = match &before {
        None => Action::Created,
        Some(before) if before.metadata.version == resource.metadata.version && before.spec == resource.spec => {
            Action::Unchanged
        }
        Some(_) => Action::Updated,
    };
    ApplyResponse { action, before, resource, notes }
}

/// The active store.
///
/// # Errors
/// Why there is none.
pub fn active_store(term: &Term) -> Result<Arc<ActiveStore>, ApiError> {
    let view = term.storage.now();
    let none = || ApiError::invalid(view.state.unavailable());
    view.active_store.clone().ok_or_else(none)
}

/// The cluster's task and a connected agent; a coordinator that just began to lead waits for the first beats.
pub async fn known_cluster(term: &Term, name: &ClusterName) -> Option<Handle> {
    let mut arrivals = term.fleet.arrivals();
    let wait = async {
        while !term.directory.contains(name) || term.fleet.agents(name, Instant::now()).is_empty() {
            if arrivals.changed().await.is_err() {
                return;
            }
            // Registration follows the first beat.
            tokio::task::yield_now().await;
        }
    };
    let _ = tokio::time::timeout_at(term.since + FIRST_BEATS, wait).await;
    term.directory.get(name)
}

/// As [`known_cluster`]; an unknown cluster is an error.
pub async fn existing(term: &Term, name: &ClusterName) -> Result<Handle, ApiError> {
    let missing = || ApiError::invalid(format!("cluster {:?} does not exist", name.as_str()));
    known_cluster(term, name).await.ok_or_else(missing)
}

/// Tells a cluster's task, and waits for its answer.
pub async fn tell(handle: &Handle, message: impl FnOnce(Reply) -> Message) -> Result<Arc<ClusterRecord>, ApiError> {
    let (reply, answer) = oneshot::channel();
    let stopping =
        || ApiError::new(ErrorCode::Unavailable, "the coordinator is stopping or has lost its lease; try again");
    handle.inbox.send(message(reply)).await.map_err(|_| stopping())?;
    answer.await.map_err(|_| stopping())?
}

/// The manifest of the selected backup.
pub async fn manifest(term: &Term, uuid: ClusterUuid, selector: SnapshotSelector) -> Result<Manifest, ApiError> {
    let found = latest::find(term, &*active_store(term)?, uuid, selector).await;
    found.map_err(|error| match &error {
        NotFound::None(_) => invalid(error),
        NotFound::Unknown(_) => ApiError::new(ErrorCode::Unavailable, error.to_string()),
    })
}

/// Checks that the backup can be opened, before anybody is told to read it.
pub async fn must_open(term: &Term, manifest: &Manifest) -> Result<(), ApiError> {
    let active_store = active_store(term)?;
    let checked = term.keys.must_open(&term.kv, &*active_store.store, manifest);
    let silent = |_| {
        let text = format!("the key of the backup could not be read within {} s", KEY_TIMEOUT.as_secs());
        ApiError::new(ErrorCode::Unavailable, text)
    };
    tokio::time::timeout(KEY_TIMEOUT, checked).await.map_err(silent)?.map_err(|error| match &error {
        KeyError::Kv(_) | KeyError::Store(_) => ApiError::new(ErrorCode::Unavailable, error.to_string()),
        _ => invalid(error),
    })
}

/// Whether this is the same request again, whose answer was lost. If it names another backup, its file was changed, and
/// that is an error. `of` is the text before the name.
pub fn same<T: FromStr + PartialEq + Display>(
    field: &str,
    id: &str,
    of: &str,
    asked: &str,
    is_of: T,
) -> Result<(), ApiError> {
    match asked.parse::<T>() {
        Ok(asked) if asked != is_of => Err(ApiError::invalid(format!(
            "{field} {id} belongs to {of}{is_of}: to start a new one for {of}{asked}, omit the field {field:?}"
        ))),
        _ => Ok(()),
    }
}
