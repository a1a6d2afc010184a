//! Requests to verify a stored backup.

use std::sync::Arc;

use backstay_protocol::api::{ApiError, ApplyRequest, ApplyResponse};
use backstay_protocol::backstay_types::VerificationSpec;
use backstay_protocol::resource::Resource;
use backstay_protocol::{ClusterName, VerifyId};
use tokio::time::Instant;
use uuid::Uuid;

use super::shared::{answer, existing, invalid, manifest, must_open, same, tell, typed};
use crate::directory::Message;
use crate::latest::SnapshotSelector;
use crate::record::ClusterRecord;
use crate::term::Term;
use crate::verify::Verification;

/// The latest verification of every cluster.
pub fn all(term: &Term) -> Vec<Resource> {
    let records = term.directory.records();
    records.iter().filter_map(|record| Some(resource(term, record, record.verification.as_ref()?))).collect()
}

fn resource(term: &Term, record: &ClusterRecord, proof: &Verification) -> Resource {
    let names = proof.machine.map(|machine| term.fleet.names(&record.name, machine)).unwrap_or_default();
    proof.resource(&record.name, &names)
}

/// Requests a verification.
pub async fn apply(term: &Arc<Term>, request: &ApplyRequest) -> Result<ApplyResponse, ApiError> {
    let spec = typed::<VerificationSpec>(&request.resource)?;
    let name: ClusterName = request.resource.metadata.id.parse().map_err(invalid)?;
    let handle = existing(term, &name).await?;
    let record = handle.record.borrow().clone();
    let before = record.verification.as_ref().map(|proof| resource(term, &record, proof));
    if let Some(proof) = record.verification.as_ref().filter(|proof| proof.id.to_string() == spec.verify) {
        same("verify", &spec.verify, "", &spec.snapshot, proof.snapshot)?;
        return Ok(answer(before.clone(), before.unwrap_or_default(), Vec::new()));
    }
    let verification = plan_proof(term, &record, &spec).await?;
    if request.dry_run {
        return Ok(answer(before, resource(term, &record, &verification), Vec::new()));
    }
    let record = tell(&handle, |reply| Message::Verify { verification: Box::new(verification), reply }).await?;
    let after = record.verification.as_ref().map(|proof| resource(term, &record, proof)).unwrap_or_default();
    Ok(answer(before, after, Vec::new()))
}

async fn plan_proof(term: &Term, record: &ClusterRecord, spec: &VerificationSpec) -> Result<Verification, ApiError> {
    if term.fleet.agents(&record.name, Instant::now()).is_empty() {
        return Err(invalid(format!("no agent of cluster {:?} is connected", record.name.as_str())));
    }
    let newest = if spec.snapshot.is_empty() { "latest" } else { &spec.snapshot };
    let manifest = manifest(term, record.uuid, SnapshotSelector::parse(newest, None).map_err(invalid)?).await?;
    must_open(term, &manifest).await?;
    let id = match spec.verify.as_str() {
        "" => VerifyId(Uuid::new_v4()),
        text => text.parse().map_err(invalid)?,
    };
    let (encrypted, now) = (manifest.seal.encryption != "none", term.clock.now());
    Ok(Verification::new(id, manifest.snapshot, manifest.snapshot_sha256, encrypted, spec.boot, now))
}
