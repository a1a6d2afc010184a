//! What somebody probably meant who named a cluster that is not there: found in what the coordinator lists.

use backstay_protocol::api::{ApiError, GetRequest};
use backstay_protocol::spec::{ClusterSpec, Spec};

use super::api::{Api, Transport};
use super::console::Failure;

/// That there is no such cluster. Where nobody lists them, the name is wrong all the same.
pub async fn no_cluster<T: Transport>(api: &Api<T>, name: &str) -> Failure {
    let clusters = api.get(ClusterSpec::definition(), &GetRequest::default()).await.unwrap_or_default();
    Failure::no_cluster(name, clusters.iter().map(|cluster| cluster.metadata.id.as_str()))
}

/// Whether the coordinator says that there is no cluster of this name.
pub fn is_no_cluster(refusal: &ApiError, name: &str) -> bool {
    refusal.text == format!("cluster {name:?} does not exist")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Coordinator;
    use backstay_protocol::resource::Resource;

    fn api() -> Api<Coordinator> {
        Api::new(Coordinator::with([
            Resource::of("prod", &ClusterSpec::default()),
            Resource::of("staging", &ClusterSpec::default()),
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
}
