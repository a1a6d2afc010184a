//! Why the coordinator refused to read a backup, with the backup that was probably meant where the named one is not there.

use backstay_protocol::SnapshotName;
use backstay_protocol::api::ApiError;
use backstay_protocol::backstay_types::StoredBackupSpec;

use super::api::{Api, Transport};
use super::backups;
use super::listing;
use super::restore::choice;

/// Why a backup was refused; where the store does not have it, with the one that was probably meant.
pub async fn reason<T: Transport>(api: &Api<T>, cluster: &str, snapshot: &str, refusal: &ApiError) -> String {
    let text = refusal.to_string();
    let is_missing = !snapshot.is_empty() && refusal.text.contains(&format!("has no {snapshot} in the store"));
    if !is_missing {
        return text;
    }
    let items = backups::of_cluster(api, cluster).await.unwrap_or_default();
    let names = listing::typed::<StoredBackupSpec>(&items).filter_map(|(_, backup)| backup.snapshot.parse().ok());
    let hint = match choice::nearest(snapshot, &names.collect::<Vec<SnapshotName>>()) {
        Some(name) => format!("did you mean {name}, taken {}?", name.time().rfc3339()),
        None => format!("see `backstayctl backups {cluster}`"),
    };
    format!("{text}: {hint}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Coordinator;
    use backstay_protocol::api::ErrorCode;
    use backstay_protocol::resource::Resource;
    use backstay_protocol::spec::ClusterSpec;

    fn api() -> Api<Coordinator> {
        let spec = StoredBackupSpec {
            cluster: "prod".into(),
            snapshot: "FFFFFFFF9A8AF980.snapshot".into(),
            ..StoredBackupSpec::default()
        };
        Api::new(Coordinator::with([
            Resource::of("prod", &ClusterSpec::default()),
            Resource::of("prod-1", &spec).in_cluster("prod"),
        ]))
    }

    #[tokio::test]
    async fn a_backup_that_was_probably_meant_is_named_with_its_time() {
        let refusal = |name: &str| ApiError::new(ErrorCode::NotFound, format!("cluster u has no {name} in the store"));
        let reason = async |name: &str| reason(&api(), "prod", name, &refusal(name)).await;
        let near = reason("FFFFFFFF9A8AF981.snapshot").await;
        assert!(near.contains(": did you mean FFFFFFFF9A8AF980.snapshot, taken 20"), "{near}");
        let far = reason("FFFFFFFF00000000.snapshot").await;
        assert!(far.ends_with("in the store: see `backstayctl backups prod`"), "{far}");
        let other = super::reason(&api(), "prod", "FFFFFFFF9A8AF981.snapshot", &ApiError::invalid("no agent")).await;
        assert_eq!(other, "no agent");
    }
}
