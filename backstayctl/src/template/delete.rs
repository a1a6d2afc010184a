//! `cluster template delete`: deletes what a sync of the template created, the cluster last.

use backstay_protocol::api::GetRequest;
use backstay_protocol::resource::LABEL_CLUSTER;
use backstay_protocol::types;

use super::{Template, sync};
use crate::api::{Api, Transport};
use crate::apply::Mode;
use crate::console::{Console, Failure};
use crate::meant;

/// Deletes the machines, the machine sets and the cluster, in this order, until one deletion is refused; those before
/// it are done.
///
/// # Errors
/// NATS or the coordinator does not answer, or the coordinator refuses the request.
pub async fn run<T: Transport>(
    api: &Api<T>,
    template: &Template,
    mode: Mode,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let name = template.cluster.name.as_str();
    let cluster = api.find(&types::CLUSTERS, name).await?;
    let members = sync::members(api, name).await?;
    let there: Vec<_> = cluster.into_iter().chain(members).collect();
    if there.is_empty() {
        return Err(meant::no_cluster(api, name).await);
    }
    // Nothing is wanted any more; the last of what a sync creates is the first to go.
    sync::take_all(api, name, sync::steps(&there, Vec::new()), mode, console).await?;
    let request = GetRequest { selector: format!("{LABEL_CLUSTER}={name}"), ..GetRequest::default() };
    let connected = api.get(&types::AGENTS, &request).await?.len();
    if connected > 0 {
        console.remark(&format!(
            "Note: agents of cluster {name} are connected ({connected}): their next heartbeat registers it again, without \
             a schedule, unless the coordinator's settings have auto_register_clusters = false"
        ))?;
    }
    Ok(())
}
