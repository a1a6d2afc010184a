//! What a plan says about a backup that a verification found to be damaged.

use std::time::Duration;

use backstay_archive::catalog;
use backstay_protocol::{ClusterName, SnapshotName};

use crate::record::ClusterRecord;
use crate::restore::Restore;
use crate::restore::model::Source;
use crate::storage::ActiveStore;
use crate::term::Term;
use crate::verify::{FailedProof, Verification};

/// How long the store may take to find the backup before it; after that, the plan does not mention one.
const STORE_TIMEOUT: Duration = Duration::from_secs(10);

/// If the backup of a plan is known to be damaged, the plan says so; returns what a person should know.
pub async fn warn(term: &Term, cluster: &ClusterName, planned: &mut Restore) -> Option<String> {
    let source = planned.source.clone();
    let record = term.directory.records().into_iter().find(|record| record.uuid == source.uuid)?;
    let proof = record.verification.as_ref()?;
    let failed = proof.damage(source.snapshot)?;
    let before = match term.storage.now().active_store {
        Some(active_store) => before(&active_store, &record, proof, source.snapshot).await,
        None => None,
    };
    planned.source.proof = proof_text(&failed, &source.proof);
    Some(text(&failed, &command(cluster, &source), before))
}

fn proof_text(failed: &FailedProof, when_taken: &str) -> String {
    format!("FAILED at {}: {}; when it was taken: {when_taken}", failed.at.rfc3339(), failed.error)
}

/// `backstayctl restore …`, without the backup.
fn command(cluster: &ClusterName, source: &Source) -> String {
    match &source.cluster {
        same if same == cluster => format!("backstayctl restore {cluster}"),
        other => format!("backstayctl restore {cluster} --data-of-another-cluster {other}"),
    }
}

fn text(failed: &FailedProof, command: &str, before: Option<SnapshotName>) -> String {
    let FailedProof { snapshot, at, error, .. } = failed;
    let damaged = format!("backup {snapshot} is damaged: its verification at {} failed: {error}", at.rfc3339());
    match before {
        Some(before) => format!("{damaged}; the previous backup is {before}: `{command} --snapshot {before}`"),
        None => format!("{damaged}; no earlier backup is known"),
    }
}

/// The newest backup that is older than `snapshot` and not known to be damaged itself.
async fn before(
    active_store: &ActiveStore,
    record: &ClusterRecord,
    proof: &Verification,
    snapshot: SnapshotName,
) -> Option<SnapshotName> {
    let listed =
        tokio::time::timeout(STORE_TIMEOUT, catalog::list(&*active_store.store, record.uuid)).await.ok()?.ok()?;
    let older =
        listed.into_iter().map(|entry| entry.snapshot).filter(|name| name.unix_seconds() < snapshot.unix_seconds());
    older.filter(|name| proof.damage(*name).is_none()).max_by_key(|name| name.unix_seconds())
}
