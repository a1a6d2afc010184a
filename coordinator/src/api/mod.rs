//! The API: requests by verb and type, and their answers. Each kind of resource has a file of its own.

mod backups;
mod clusters;
mod damaged;
mod kept;
mod machine_sets;
mod manual_backups;
mod restores;
mod s3_configs;
pub mod service;
mod shared;
mod verifications;
mod views;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use backstay_protocol::api::{
    self, Answer, ApiError, ApplyRequest, ApplyResponse, DeleteRequest, DeleteResponse, ErrorCode, GetRequest,
    GetResponse, PageError,
};
use backstay_protocol::codec::ContentType;
use backstay_protocol::resource::{Metadata, Resource};
use backstay_protocol::selector::Selector;
use backstay_protocol::spec::{MachineSetNodeSpec, MachineSetSpec};
use backstay_protocol::subject::{Subject, Verb};
use backstay_protocol::types::{self, Kind, TypeDefinition};
use backstay_protocol::{fields, validate};
use futures::FutureExt;
use serde::Serialize;
use tracing::error;

use crate::term::Term;
use shared::{in_namespace, invalid, read_only};

/// The most bytes that a resource may have as JSON: an answer contains two, and an entry of the KV one.
const RESOURCE_MAX: usize = 64 * 1024;

/// Answers one request. If handling it panics, this request is answered with an error, and others are not affected.
///
/// # Errors
/// Why the request was refused or could not be carried out: what the caller gets.
pub async fn answer(
    term: &Arc<Term>,
    content_type: ContentType,
    subject: &str,
    body: &[u8],
) -> Result<Vec<u8>, ApiError> {
    match AssertUnwindSafe(handle(term, content_type, subject, body)).catch_unwind().await {
        Ok(handled) => handled,
        Err(_) => {
            error!(subject, "the coordinator panicked on a request");
            let text =
                "the coordinator panicked on this request (see its log); it is unknown whether anything was done";
            Err(ApiError::new(ErrorCode::Internal, text))
        }
    }
}

/// Answers one request. `subject` names verb and type; body and answer have the encoding `content_type`.
async fn handle(term: &Arc<Term>, content_type: ContentType, subject: &str, body: &[u8]) -> Result<Vec<u8>, ApiError> {
    let Ok(Subject::Api { verb, plural }) = subject.parse() else {
        return Err(ApiError::invalid(format!("{subject:?} is not a subject of the API")));
    };
    let definition = types::by_plural(&plural).ok_or_else(|| unknown_type(&plural))?;
    match verb {
        Verb::Get => encode(content_type, get(term, definition, content_type, decode(content_type, body)?).await?),
        Verb::Apply => encode(content_type, apply(term, definition, decode(content_type, body)?).await?),
        Verb::Delete => encode(content_type, delete(term, definition, decode(content_type, body)?).await?),
    }
}

/// One resource by id, or all that the selector selects, in the order of ids (backups: newest first): as many as fit
/// into one message in this encoding.
async fn get(
    term: &Arc<Term>,
    definition: &'static TypeDefinition,
    content_type: ContentType,
    request: GetRequest,
) -> Result<GetResponse, ApiError> {
    let selector: Selector = request.selector.parse().map_err(|e| ApiError::invalid(format!("{e}")))?;
    if !request.id.is_empty() && !selector.terms.is_empty() {
        return Err(ApiError::invalid("cannot specify both resource ID and selector"));
    }
    let (mut items, mut more, mut after) = (Vec::new(), false, request.after.as_str());
    if in_namespace(definition, &request.namespace) {
        if definition.kind == Kind::StoredBackups {
            // Whatever an answer does not hold need not be read for it.
            (items, more) = backups::described(term, &request.id, &selector, after).await?;
            after = "";
        } else {
            items = all(term, definition, &request.id, &selector).await?;
        }
    }
    items.retain(|item| selector.matches(&item.metadata.labels));
    if !request.id.is_empty() {
        items.retain(|item| item.metadata.id == request.id);
        if items.is_empty() {
            let namespace = if request.namespace.is_empty() { definition.namespace } else { &request.namespace };
            return Err(ApiError::not_found(&format!("{}({namespace}/{})", definition.name, request.id)));
        }
    }
    // What a list adds to each item: a comma, or a tag and a length.
    let size = |item: &Resource| content_type.encode(item).map_or(usize::MAX / 2, |bytes| bytes.len()) + 8;
    let mut page = GetResponse::page(items, after, term.bus.max_payload(), size).map_err(|error| match error {
        PageError::Gone(_) => ApiError::new(ErrorCode::Conflict, error.to_string()),
        PageError::TooLarge { .. } => ApiError::new(ErrorCode::Internal, format!("{}: {error}", definition.name)),
    })?;
    if let Some(last) = page.items.last().filter(|_| more && page.next.is_empty()) {
        page.next = last.metadata.id.clone();
    }
    Ok(page)
}

async fn all(
    term: &Term,
    definition: &TypeDefinition,
    id: &str,
    selector: &Selector,
) -> Result<Vec<Resource>, ApiError> {
    Ok(match definition.kind {
        Kind::Agents => views::agents(term),
        Kind::BackupRuns => views::runs(term),
        Kind::Clusters => clusters::all(term),
        Kind::ClusterUuids => clusters::uuids(term),
        Kind::CoordinatorStatuses => vec![views::coordinator(term)],
        Kind::EtcdBackupOverallStatuses => term.overall.resource().await.into_iter().collect(),
        Kind::EtcdBackupS3Configs => s3_configs::all(term).await?.into_iter().collect(),
        Kind::EtcdBackupStatuses => views::statuses(term),
        Kind::EtcdBackups => backups::list(term, id, selector).await?,
        Kind::EtcdManualBackups => manual_backups::all(term),
        Kind::MachineSetNodes => kept::all::<MachineSetNodeSpec>(term).await?,
        Kind::MachineSets => kept::all::<MachineSetSpec>(term).await?,
        Kind::Restores => restores::all(term),
        // One page at a time: see `get`.
        Kind::StoredBackups => Vec::new(),
        Kind::Verifications => verifications::all(term),
    })
}

/// Creates a resource, or changes it to the given one.
async fn apply(
    term: &Arc<Term>,
    definition: &'static TypeDefinition,
    request: ApplyRequest,
) -> Result<ApplyResponse, ApiError> {
    let Metadata { kind, namespace, id, .. } = &request.resource.metadata;
    if kind != definition.name {
        return Err(ApiError::invalid(format!(
            "metadata.type is {kind:?}, but the subject is for {}",
            definition.name
        )));
    }
    if !in_namespace(definition, namespace) {
        return Err(ApiError::invalid(format!(
            "{} are in namespace {:?}, not {namespace:?}",
            definition.name, definition.namespace
        )));
    }
    let bytes = serde_json::to_vec(&request.resource).map_or(usize::MAX, |json| json.len());
    // Beside it the record of a cluster has more to say, and an answer what was there before.
    let room = RESOURCE_MAX.min(term.bus.max_payload() / 4);
    if bytes > room {
        return Err(ApiError::invalid(format!(
            "the resource is too large: {bytes} bytes as JSON, and at most {room} are allowed"
        )));
    }
    if id.is_empty() {
        return Err(ApiError::invalid("metadata.id must be specified"));
    }
    if let Err(field) = validate::unknown_fields(&request.resource.spec, &fields::every_field(definition), "spec") {
        return Err(ApiError::invalid(field.to_string()));
    }
    match definition.kind {
        Kind::Clusters => clusters::apply(term, &request).await,
        Kind::EtcdManualBackups => manual_backups::apply(term, &request).await,
        Kind::EtcdBackupS3Configs => s3_configs::apply(term, &request).await,
        Kind::MachineSets => machine_sets::apply(term, &request).await,
        Kind::MachineSetNodes => machine_sets::apply_node(term, &request).await,
        Kind::Restores => restores::apply(term, &request).await,
        Kind::Verifications => verifications::apply(term, &request).await,
        Kind::Agents
        | Kind::BackupRuns
        | Kind::ClusterUuids
        | Kind::CoordinatorStatuses
        | Kind::EtcdBackupOverallStatuses
        | Kind::EtcdBackupStatuses
        | Kind::EtcdBackups
        | Kind::StoredBackups => Err(read_only(definition)),
    }
}

/// Deletes a resource that people may delete.
async fn delete(
    term: &Arc<Term>,
    definition: &'static TypeDefinition,
    request: DeleteRequest,
) -> Result<DeleteResponse, ApiError> {
    if request.force && definition.kind != Kind::Clusters {
        return Err(ApiError::invalid(format!("force can only be used with clusters, not with {}", definition.name)));
    }
    match definition.kind {
        Kind::Clusters => clusters::delete(term, &request).await,
        Kind::EtcdManualBackups => manual_backups::delete(term, &request).await,
        Kind::EtcdBackupS3Configs => s3_configs::delete(term, &request).await,
        Kind::MachineSets => machine_sets::delete(term, &request).await,
        Kind::MachineSetNodes => machine_sets::delete_node(term, &request).await,
        Kind::Agents
        | Kind::BackupRuns
        | Kind::ClusterUuids
        | Kind::CoordinatorStatuses
        | Kind::EtcdBackupOverallStatuses
        | Kind::EtcdBackupStatuses
        | Kind::EtcdBackups
        | Kind::StoredBackups
        | Kind::Restores
        | Kind::Verifications => Err(read_only(definition)),
    }
}

fn unknown_type(plural: &str) -> ApiError {
    let known: Vec<String> = types::ALL.iter().map(|d| d.plural()).collect();
    ApiError::invalid(format!("there is no type {plural:?}; there are: {}", known.join(", ")))
}

fn decode<T: api::Request>(content_type: ContentType, body: &[u8]) -> Result<T, ApiError> {
    content_type.decode_request(body).map_err(invalid)
}

fn encode<T: Serialize>(content_type: ContentType, result: T) -> Result<Vec<u8>, ApiError> {
    let answer = Answer::from_result(Ok(result));
    content_type.encode(&answer).map_err(|e| ApiError::new(ErrorCode::Internal, e.to_string()))
}
