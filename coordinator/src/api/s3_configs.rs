//! The S3 configuration: the bucket is tested before it is accepted, and secrets are encrypted before they are stored.

use std::sync::Arc;
use std::time::Duration;

use backstay_archive::StoreError;
use backstay_archive::store::ErrorKind;
use backstay_protocol::api::{
    ApiError, ApplyRequest, ApplyResponse, DeleteRequest, DeleteResponse, ErrorCode, check_version,
};
use backstay_protocol::resource::Resource;
use backstay_protocol::spec::{S3_CONFIG_ID, S3ConfigSpec};
use backstay_protocol::{types, validate};

use super::kept;
use super::shared::{answer, invalid, missing, typed, unavailable};
use crate::config::Storage;
use crate::record::Kept;
use crate::status::{self, StorageState};
use crate::storage::{ActiveStore, S3_ENTRY, StoredS3};
use crate::term::Term;
use crate::upkeep;

/// How long the test of a bucket may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(60);

/// The configuration, without secrets.
pub async fn all(term: &Term) -> Result<Option<Resource>, ApiError> {
    let found = term.kv.get::<StoredS3>(S3_ENTRY).await.map_err(|e| unavailable(&e))?;
    Ok(found.map(|found| found.value.shown.resource(S3_CONFIG_ID)))
}

/// Tests a configuration and makes it the active one.
pub async fn apply(term: &Arc<Term>, request: &ApplyRequest) -> Result<ApplyResponse, ApiError> {
    if term.config.storage != Storage::S3 {
        return Err(ApiError::invalid(
            "the coordinator is configured for the local backend: set [storage] backend = \"s3\" to use S3",
        ));
    }
    if request.resource.metadata.id != S3_CONFIG_ID {
        return Err(ApiError::invalid(format!("there is only one S3 configuration, with the ID {S3_CONFIG_ID:?}")));
    }
    let _one_at_a_time = term.configuring.lock().await;
    let found = term.kv.get::<StoredS3>(S3_ENTRY).await.map_err(|e| unavailable(&e))?;
    if let Some(found) = &found {
        check_version(request.resource.metadata.version, found.value.shown.version)?;
    }
    // What cannot be opened any more (the identity was changed) is replaced by what is applied.
    let stored = found.as_ref().and_then(|f| f.value.open(&term.keys).ok());
    let spec = typed::<S3ConfigSpec>(&request.resource)?.unhidden(stored.as_ref()).map_err(invalid)?;
    let now = term.clock.now();
    let mut full = match (&found, &stored) {
        (Some(found), Some(stored)) => Kept { spec: stored.clone(), ..found.value.shown.clone() },
        (Some(found), None) => found.value.shown.clone(),
        (None, _) => Kept::new(spec.clone(), now),
    };
    full.set(spec.clone(), now);
    let before = found.as_ref().map(|f| f.value.shown.resource(S3_CONFIG_ID));
    if request.dry_run {
        validate::s3_config(&spec).map_err(invalid)?;
        let shown = Kept { spec: spec.redacted(), ..full };
        let note = "dry run: access to the bucket was not tested".to_owned();
        return Ok(answer(before, shown.resource(S3_CONFIG_ID), vec![note]));
    }
    let prepared = prepare_s3(term, &spec).await;
    let (active_store, notes) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            let counted = term.overall.update(&*term.clock, status::count_attempt).await;
            counted.map_err(|e| unavailable(&e))?;
            return Err(error);
        }
    };
    let sealed = StoredS3::seal(full, active_store.in_use(), &term.keys);
    let sealed = sealed.map_err(|e| ApiError::new(ErrorCode::Internal, e.to_string()))?;
    let written = match &found {
        Some(found) => term.kv.update(S3_ENTRY, &sealed, found.revision).await,
        None => term.kv.create(S3_ENTRY, &sealed).await,
    };
    written.map_err(|e| unavailable(&e))?;
    upkeep::keep_copy(term, Some(&sealed)).await;
    let now = term.storage.now().active_store;
    if now.is_none_or(|now| now.in_use() != active_store.in_use()) || stored.as_ref() != Some(&spec) {
        term.storage.set(active_store);
    }
    let name = term.config.storage.name();
    let counted = term
        .overall
        .update(&*term.clock, |s| status::with_storage(&status::count_attempt(s), name, &StorageState::Ready));
    counted.await.map_err(|e| unavailable(&e))?;
    Ok(answer(before, sealed.shown.resource(S3_CONFIG_ID), notes))
}

/// Checks the configuration by itself, then against S3: list, create, complete, delete.
async fn prepare_s3(term: &Term, spec: &S3ConfigSpec) -> Result<(ActiveStore, Vec<String>), ApiError> {
    validate::s3_config(spec).map_err(invalid)?;
    let (tried, settings) = (spec.clone(), term.config.settings.storage.clone());
    // A task of its own: where nobody waits for it any more, it still removes what it put there.
    let probe = term.tasks.spawn(async move {
        let active_store = ActiveStore::s3(tried, &settings, None).await?;
        let notes = active_store.probe().await?;
        Ok::<_, StoreError>((active_store, notes))
    });
    match tokio::time::timeout(PROBE_TIMEOUT, probe).await {
        Ok(Ok(probed)) => probed.map_err(|error| invalid(with_endpoint(&error, spec))),
        Ok(Err(panicked)) => {
            Err(ApiError::new(ErrorCode::Internal, format!("the test of the store failed: {panicked}")))
        }
        Err(_) => Err(ApiError::invalid(format!(
            "failed to test bucket {:?}: S3 did not answer within {}s ({})",
            spec.bucket,
            PROBE_TIMEOUT.as_secs(),
            endpoint(spec)
        ))),
    }
}

/// If there is no answer, the error says from which endpoint.
fn with_endpoint(error: &StoreError, spec: &S3ConfigSpec) -> String {
    match error.is(ErrorKind::Unavailable) && (spec.endpoint.is_empty() || !error.cause.contains(&spec.endpoint)) {
        true => format!("{error} ({})", endpoint(spec)),
        false => error.to_string(),
    }
}

fn endpoint(spec: &S3ConfigSpec) -> String {
    match spec.endpoint.as_str() {
        "" => "no endpoint is set: AWS, or the endpoint in the coordinator's environment".into(),
        endpoint => format!("endpoint {endpoint}"),
    }
}

/// Removes the configuration; then no backup can be made.
pub async fn delete(term: &Arc<Term>, request: &DeleteRequest) -> Result<DeleteResponse, ApiError> {
    let definition = &types::ETCD_BACKUP_S3_CONFIGS;
    if request.id != S3_CONFIG_ID {
        return Err(missing(definition, &request.id));
    }
    let _one_at_a_time = term.configuring.lock().await;
    if !kept::remove(term, definition, request, S3_ENTRY).await? {
        return Err(missing(definition, &request.id));
    }
    if !request.dry_run && term.config.storage == Storage::S3 {
        upkeep::keep_copy(term, None).await;
        term.storage.clear(StorageState::NotInitialized);
        upkeep::refresh_overall(term).await.map_err(|e| unavailable(&e))?;
    }
    Ok(DeleteResponse {})
}
