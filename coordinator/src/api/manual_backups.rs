//! Manual backups: each is part of its cluster's record.

use std::sync::Arc;

use backstay_protocol::api::{ApiError, ApplyRequest, ApplyResponse, DeleteRequest, DeleteResponse};
use backstay_protocol::resource::Resource;
use backstay_protocol::spec::ManualBackupSpec;
use backstay_protocol::{ClusterName, types, validate};
use tokio::time::Instant;

use super::shared::{active_store, answer, existing, in_namespace, invalid, missing, tell, typed};
use crate::directory::Message;
use crate::record::ClusterRecord;
use crate::term::Term;

/// The manual backup of every cluster that has one.
pub fn all(term: &Term) -> Vec<Resource> {
    let records = term.directory.records();
    records.iter().filter_map(|record| Some(record.manual.as_ref()?.resource(record.name.as_str()))).collect()
}

/// Requests a backup now.
pub async fn apply(term: &Arc<Term>, request: &ApplyRequest) -> Result<ApplyResponse, ApiError> {
    let spec = typed::<ManualBackupSpec>(&request.resource)?;
    let name: ClusterName = request.resource.metadata.id.parse().map_err(invalid)?;
    let handle = existing(term, &name).await?;
    let record = handle.record.borrow().clone();
    let before = record.manual.as_ref().map(|m| m.resource(name.as_str()));
    // What was accepted once is not judged again: its time may lie in the past by now.
    let repeated = record.manual.as_ref().is_some_and(|m| m.spec == spec);
    if repeated {
        let resource = before.clone().unwrap_or_default();
        return Ok(answer(before, resource, Vec::new()));
    }
    let at = validate::manual_backup(&spec, term.clock.now()).map_err(invalid)?;
    active_store(term)?;
    if term.fleet.agents(&name, Instant::now()).is_empty() {
        return Err(ApiError::invalid(format!("no agent of cluster {:?} is connected", name.as_str())));
    }
    if request.dry_run {
        let mut next = (*record).clone();
        next.accept_manual(at.seconds, term.clock.now()).map_err(invalid)?;
        return Ok(answer(before, resource(&next), Vec::new()));
    }
    let record = tell(&handle, |reply| Message::Manual { seconds: at.seconds, reply }).await?;
    Ok(answer(before, resource(&record), Vec::new()))
}

fn resource(record: &ClusterRecord) -> Resource {
    record.manual.as_ref().map(|m| m.resource(record.name.as_str())).unwrap_or_default()
}

/// Removes the manual backup from a cluster's record.
pub async fn delete(term: &Term, request: &DeleteRequest) -> Result<DeleteResponse, ApiError> {
    let definition = &types::ETCD_MANUAL_BACKUPS;
    let missing = || missing(definition, &request.id);
    let name: ClusterName = request.id.parse().map_err(|_| missing())?;
    let found = term.directory.get(&name).filter(|_| in_namespace(definition, &request.namespace));
    let handle = found.filter(|handle| handle.record.borrow().manual.is_some()).ok_or_else(missing)?;
    if !request.dry_run {
        tell(&handle, |reply| Message::DropManual { reply }).await?;
    }
    Ok(DeleteResponse {})
}
