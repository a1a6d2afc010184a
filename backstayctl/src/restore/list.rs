//! `list`: clusters and their backups, from the manifests only.

use backstay_archive::Store;
use backstay_archive::catalog::{self, CatalogError, Progress, Reading, Skipped, Vouched};
use backstay_archive::store::ErrorKind;
use backstay_archive::trust::{Signers, Voucher};
use backstay_daemon::units;
use serde_json::{Value, json};

use super::arguments::List;
use super::choice::{self, Cluster};
use super::error::RestoreFailure;
use crate::arguments::operate::Form;
use crate::console::{Console, Failure};
use crate::output::table::Layout;
use crate::output::{json, yaml};

/// Prints the backups in a store.
///
/// # Errors
/// The store does not answer, or has no such cluster.
pub async fn run(list: List, console: &mut Console<'_>) -> Result<(), Failure> {
    let store = super::open::open(list.named(), list.bucket.settings()).await?;
    let (progress, signers) = (Progress::default(), list.signers.signers().map_err(RestoreFailure::Signers)?);
    let wanted = Cluster::of(list.cluster, list.cluster_uuid);
    let (backups, skipped) = super::looking(read(&*store, &wanted, &signers, &progress), &progress, console).await??;
    console.print(&render(&backups, list.output, !list.no_headers))?;
    skipped.lines().try_for_each(|skipped| console.remark(&format!("Note: skipped: {skipped}")))?;
    if backups.is_empty() && skipped.count() == 0 {
        console.remark(&format!("Note: {} contains no backups", store.url()))?;
    }
    Ok(())
}

/// The manifests, by cluster and then newest first; and what could not be read.
async fn read(
    store: &dyn Store,
    wanted: &Cluster,
    signers: &Signers,
    progress: &Progress,
) -> Result<(Vec<Vouched>, Skipped), RestoreFailure> {
    let clusters = match wanted {
        Cluster::Uuid(cluster) => vec![*cluster],
        Cluster::Named(name) => choice::series_of(store, name).await?,
        Cluster::Any => catalog::clusters(store).await?,
    };
    let (mut reading, mut groups) = (Reading::new(store, progress).trusting(signers.clone()), Vec::new());
    for cluster in clusters {
        let entries = match catalog::list(store, cluster).await {
            // A policy may keep one folder to itself.
            Err(error) if error.is(ErrorKind::Denied) && *wanted == Cluster::Any => {
                reading.skipped.note(CatalogError::Object(error));
                continue;
            }
            entries => entries?,
        };
        let mut group = Vec::new();
        reading.each(entries, |_, found| group.push(found)).await?;
        groups.push(group);
    }
    groups.sort_by(|a, b| name(a).cmp(name(b)));
    let skipped = reading.end();
    // Nothing at all could be read: that is no list of what is there.
    if groups.iter().all(Vec::is_empty)
        && let Some(error) = skipped.kept_back()
        && !catalog::is_reading_allowed(store).await?
    {
        return Err(error.clone().into());
    }
    Ok((groups.into_iter().flatten().collect(), skipped))
}

fn name(group: &[Vouched]) -> &str {
    group.first().map_or("", |backup| backup.manifest.cluster.as_str())
}

fn render(backups: &[Vouched], form: Form, headings: bool) -> String {
    let values = || backups.iter().map(value).collect::<Vec<_>>();
    match form {
        Form::Table => rows(backups, false, headings),
        Form::Wide => rows(backups, true, headings),
        Form::Yaml => yaml::document(&Value::Array(values())),
        Form::Json => json::stream(&values()),
    }
}

/// UUIDs and ids are for a wide table; without them, a line of a short name has less than 120 characters.
fn rows(backups: &[Vouched], wide: bool, headings: bool) -> String {
    // Without anybody to trust there is nothing to say of it.
    let is_looked_at = backups.iter().any(|backup| backup.voucher.is_some());
    let mut heading = vec!["CLUSTER", "SNAPSHOT", "CREATED AT", "REVISION", "SIZE", "STORED", "ENCRYPTED"];
    if wide {
        heading.extend(["CLUSTER UUID", "ETCD CLUSTER"]);
    }
    if is_looked_at {
        heading.push("SIGNED");
    }
    let row = |backup: &Vouched| {
        let manifest = &backup.manifest;
        let mut row = vec![
            manifest.cluster.to_string(),
            manifest.snapshot.to_string(),
            manifest.created_at.rfc3339(),
            manifest.origin.revision.to_string(),
            units::bytes(manifest.snapshot_bytes),
            units::bytes(manifest.sealed_bytes),
            if manifest.seal.encryption == "none" { "no" } else { "yes" }.to_owned(),
        ];
        if wide {
            row.extend([manifest.cluster_uuid.to_string(), manifest.origin.etcd_cluster_id.clone()]);
        }
        if is_looked_at {
            row.push(signed(backup.voucher.as_ref()));
        }
        row
    };
    Layout { headings, fit: None }.table(&heading, backups.iter().map(row))
}

/// In a column.
fn signed(voucher: Option<&Voucher>) -> String {
    match voucher {
        Some(Voucher::Signed(by)) => format!("by {}", by.name()),
        Some(Voucher::Bad(_)) => "BAD".into(),
        Some(Voucher::Unsigned) | None => "no".into(),
    }
}

fn value(backup: &Vouched) -> Value {
    let manifest = &backup.manifest;
    let (signature, by) = match &backup.voucher {
        Some(Voucher::Signed(by)) => (Some("good"), Some(by.name())),
        Some(Voucher::Bad(_)) => (Some("bad"), None),
        Some(Voucher::Unsigned) => (Some("none"), None),
        None => (None, None),
    };
    json!({
        "cluster": manifest.cluster,
        "clusteruuid": manifest.cluster_uuid,
        "snapshot": manifest.snapshot,
        "createdat": manifest.created_at,
        "revision": manifest.origin.revision,
        "etcdversion": manifest.origin.etcd_version,
        "etcdclusterid": manifest.origin.etcd_cluster_id,
        "size": manifest.snapshot_bytes,
        "stored": manifest.sealed_bytes,
        "sha256": manifest.snapshot_sha256,
        "recipients": manifest.seal.recipients,
        "number": manifest.sequence.as_ref().map(|place| place.number),
        "signature": signature,
        "signedby": by,
    })
}
