//! Resources that are only stored: each is an entry of the KV.

use backstay_protocol::api::{ApiError, ApplyRequest, ApplyResponse, DeleteRequest, check_version};
use backstay_protocol::resource::Resource;
use backstay_protocol::spec::Spec;
use backstay_protocol::types::TypeDefinition;
use serde::de::DeserializeOwned;

use super::shared::{answer, in_namespace, missing, unavailable};
use crate::record::{Kept, Meta};
use crate::term::Term;

/// The KV entries of a type that is only stored.
pub fn prefix(definition: &TypeDefinition) -> String {
    format!("resource.{}.", definition.plural())
}

/// Every one of a type.
pub async fn all<S: Spec + DeserializeOwned>(term: &Term) -> Result<Vec<Resource>, ApiError> {
    let prefix = prefix(S::definition());
    let mut items = Vec::new();
    for key in term.kv.keys(&prefix).await.map_err(|e| unavailable(&e))? {
        if let Some(found) = term.kv.get::<Kept<S>>(&key).await.map_err(|e| unavailable(&e))? {
            items.push(found.value.resource(&key[prefix.len()..]));
        }
    }
    Ok(items)
}

/// A resource that is only stored.
pub async fn keep<S: Spec>(term: &Term, request: &ApplyRequest, id: &str, spec: S) -> Result<ApplyResponse, ApiError> {
    let key = format!("{}{id}", prefix(S::definition()));
    let now = term.clock.now();
    let metadata = &request.resource.metadata;
    let found = term.kv.get::<Kept<S>>(&key).await.map_err(|e| unavailable(&e))?;
    let before = found.as_ref().map(|f| f.value.resource(id));
    let mut next = match &found {
        Some(found) => {
            check_version(metadata.version, found.value.version)?;
            found.value.clone()
        }
        None => Kept::new(spec.clone(), now),
    };
    next.configure(spec, Meta::of(metadata), now);
    if found.is_none() {
        next.version = 1;
    }
    if !request.dry_run {
        let written = match &found {
            Some(found) if found.value == next => Ok(found.revision),
            Some(found) => term.kv.update(&key, &next, found.revision).await,
            None => term.kv.create(&key, &next).await,
        };
        written.map_err(|e| unavailable(&e))?;
    }
    Ok(answer(before, next.resource(id), Vec::new()))
}

/// Removes an entry; `false` if there is none.
///
/// # Errors
/// No resource of the type can have that name.
pub async fn remove(
    term: &Term,
    definition: &'static TypeDefinition,
    request: &DeleteRequest,
    key: &str,
) -> Result<bool, ApiError> {
    may_be(definition, request)?;
    let found = term.kv.get::<serde_json::Value>(key).await.map_err(|e| unavailable(&e))?;
    if found.is_some() && !request.dry_run {
        term.kv.delete(key).await.map_err(|e| unavailable(&e))?;
    }
    Ok(found.is_some())
}

/// Whether there can be such a resource.
pub fn may_be(definition: &TypeDefinition, request: &DeleteRequest) -> Result<(), ApiError> {
    let plain = request.id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    match plain && in_namespace(definition, &request.namespace) {
        true => Ok(()),
        false => Err(missing(definition, &request.id)),
    }
}
