//! What somebody probably meant who named a cluster or a backup that is not there: found in what the coordinator lists.

use backstay_protocol::SnapshotName;
use backstay_protocol::api::{ApiError, GetRequest};
use backstay_protocol::backstay_types::StoredBackupSpec;
use backstay_protocol::spec::{ClusterSpec, Spec};

use super::api::{Api, Transport};
use super::backups;
use super::console::Failure;
use super::listing;
use super::restore::choice;

/// That there is no such cluster. Where nobody lists them, the name is wrong all the same.
pub async fn no_cluster<T: Transport>(api: &Api<T>, name: &str) -> Failure {
    let clusters = api.get(ClusterSpec::definition(), &GetRequest::default()).await.unwrap_or_default();
    Failure::no_cluster(name, clusters.iter().map(|cluster| cluster.metadata.id.as_str()))
}

/// Whether the coordinator says that there is no cluster of this name.
pub fn is_no_cluster(refusal: &ApiError, name: &str) -> bool {
    refusal.text == format!("cluster {name:?} does not exist")
}

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

    fn api() -> Api<Coordinator> {
        let spec = StoredBackupSpec {
            cluster: "prod".into(),
            snapshot: "FFFFFFFF9A8AF980.snapshot".into(),
            ..StoredBackupSpec::default()
        };
        Api::new(Coordinator::with([
            Resource::of("prod", &ClusterSpec::default()),
            Resource::of("staging", &ClusterSpec::default()),
            Resource::of("prod-1", &spec).in_cluster("prod"),
        ]))
    }

    #[tokio::test]
    async fn a_cluster_that_was_probably_meant_is_named() {
        for (name, hint) in
            [("prd", "did you mean prod?"), ("Prod", "did you mean prod?"), ("x", "see `backstayctl get clusters`")]
        {
            let error = no_cluster(&api(), name).await.to_string();
            assert_eq!(error, format!("cluster {name:?} does not exist: {hint}"));
        }
        let nobody = no_cluster(&Api::new(Coordinator::absent()), "prd").await.to_string();
        assert_eq!(nobody, "cluster \"prd\" does not exist: see `backstayctl get clusters`");
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
