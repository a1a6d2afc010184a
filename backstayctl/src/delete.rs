//! `delete`: resources of one type, by id. Before a cluster is deleted, the consequences are shown and confirmation is
//! asked.

use std::io::Read;

use backstay_protocol::api::{DeleteRequest, GetRequest};
use backstay_protocol::backstay_types::AgentSpec;
use backstay_protocol::duration;
use backstay_protocol::resource::{LABEL_CLUSTER, Resource};
use backstay_protocol::spec::{BackupSpec, ClusterSpec, ClusterUuidSpec, Spec};
use backstay_protocol::types::{self, TypeDefinition};

use super::api::{Api, CallError, Transport};
use super::console::{Console, Failure, Unconfirmed};
use super::{listing, meant};

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    pub definition: &'static TypeDefinition,
    /// Empty: the type's own.
    pub namespace: String,
    pub ids: Vec<String>,
    /// Skip the confirmation.
    pub yes: bool,
    pub dry_run: bool,
    pub force: bool,
}

impl Query {
    /// Whether to ask for confirmation: only for clusters.
    fn asks(&self) -> bool {
        self.definition == &types::CLUSTERS && !self.yes && !self.dry_run
    }

    fn request(&self, id: &str) -> DeleteRequest {
        let namespace = if self.namespace.is_empty() { self.definition.namespace } else { &self.namespace };
        DeleteRequest { id: id.into(), namespace: namespace.into(), force: self.force, dry_run: self.dry_run }
    }
}

/// Deletes one resource after the other, until one fails.
///
/// # Errors
/// Names the resource: it was not confirmed, does not exist, or the coordinator refuses.
pub async fn run<T: Transport>(
    api: &Api<T>,
    query: &Query,
    stdin: &mut dyn Read,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    for id in &query.ids {
        let request = query.request(id);
        let address = format!("{}({}/{id})", query.definition.name, request.namespace);
        let failed = |reason: &str| Failure::NotDeleted { address: address.clone(), reason: reason.into() };
        if query.definition == &types::CLUSTERS {
            // What is refused is refused before anybody is asked.
            check(api, query, &request).await.map_err(|cause| refused(&address, cause))?;
            if query.asks() {
                console.can_ask().map_err(|why| failed(&why.to_string()))?;
            }
            console.print(&consequences(api, id).await?)?;
        }
        if query.asks() && !console.typed("Type the name of the cluster to delete it: ", id, stdin)? {
            return Err(failed(&Unconfirmed::NotTyped.to_string()));
        }
        api.delete(query.definition, &request).await.map_err(|cause| refused(&address, cause))?;
        console.remark(&format!("destroyed{} {address}", if query.dry_run { " (dry run)" } else { "" }))?;
    }
    Ok(())
}

fn refused(address: &str, cause: CallError) -> Failure {
    match cause.is_absence() {
        true => Failure::Call(cause),
        false => Failure::Delete { address: address.into(), cause },
    }
}

/// Asks whether it would be deleted. An older coordinator does not know dry runs; then nothing is checked before the
/// deletion itself.
async fn check<T: Transport>(api: &Api<T>, query: &Query, request: &DeleteRequest) -> Result<(), CallError> {
    let dry = DeleteRequest { dry_run: true, ..request.clone() };
    match api.delete(query.definition, &dry).await {
        Err(error) if !query.dry_run && (error.is_unknown_field("dry_run") || error.is_unknown_field("force")) => {
            Ok(())
        }
        other => other,
    }
}

/// What goes, what stays, and what comes back.
async fn consequences<T: Transport>(api: &Api<T>, cluster: &str) -> Result<String, Failure> {
    let Some(found) = api.find(&types::CLUSTERS, cluster).await? else {
        return Err(meant::no_cluster(api, cluster).await);
    };
    let uuid = api.find(&types::CLUSTER_UUIDS, cluster).await?;
    let agents = listing::of_cluster::<AgentSpec, T>(api, cluster).await?;
    let request = GetRequest { selector: format!("{LABEL_CLUSTER}={cluster}"), ..GetRequest::default() };
    let backups = api.get(BackupSpec::definition(), &request).await.map(|backups| backups.len());
    Ok(text(&found, uuid.as_ref(), agents.len(), backups.map_err(|cause| cause.to_string())))
}

/// What stays in the store; `backups` is how many it has, or why that is not known.
fn kept(uuid: Option<&Resource>, backups: Result<usize, String>) -> String {
    let uuid = uuid.and_then(|uuid| uuid.typed::<ClusterUuidSpec>().ok()).and_then(|spec| spec.uuid);
    let place = uuid.map(|uuid| format!(", under {uuid}/")).unwrap_or_default();
    match backups {
        Ok(0) => "nothing: the store has no backup of it".into(),
        Ok(_) => format!("its backups in the store{place}; they can still be listed and restored from there"),
        Err(why) => format!("its backups, if the store has any{place} (it could not be asked: {why})"),
    }
}

fn text(cluster: &Resource, uuid: Option<&Resource>, agents: usize, backups: Result<usize, String>) -> String {
    let name = &cluster.metadata.id;
    let interval = cluster.typed::<ClusterSpec>().ok().and_then(|spec| spec.backup_interval());
    let schedule = match interval {
        Some(interval) => format!("its schedule (a backup every {})", duration::format(interval)),
        None => "its schedule (none is set)".into(),
    };
    let kept = kept(uuid, backups);
    let connected = match agents {
        0 => "An agent of the cluster that connects again".to_owned(),
        1 => "1 of its agents is connected: its next heartbeat".into(),
        n => format!("{n} of its agents are connected: their next heartbeat"),
    };
    format!(
        "Deleting cluster {name}\n  Deleted:  its settings, {schedule}, its status and its list of backup attempts\n  \
         Kept:     {kept}\n  Note:     \
         {connected} registers it again, without a schedule, unless the coordinator's settings have \
         auto_register_clusters = false. The cluster also comes back if it is applied again, or if NATS loses its \
         data\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Coordinator, capture};

    fn cluster() -> Coordinator {
        let spec = serde_json::json!({ "backupconfiguration": { "interval": { "seconds": 3600 } } });
        let spec: ClusterSpec = serde_json::from_value(spec).expect("a cluster");
        Coordinator::with([Resource::of("c", &spec)])
    }

    fn query(yes: bool, dry_run: bool) -> Query {
        let (definition, ids) = (ClusterSpec::definition(), vec!["c".to_owned()]);
        Query { definition, namespace: String::new(), ids, yes, dry_run, force: false }
    }

    async fn delete(coordinator: &Coordinator, query: &Query, stdin: &str) -> Result<(String, String), String> {
        let (api, mut stdin) = (Api::new(coordinator.clone()), stdin.as_bytes());
        capture(async |console| run(&api, query, &mut stdin, console).await).await
    }

    const GONE: &str = "destroyed Clusters.omni.sidero.dev(default/c)\n";

    #[tokio::test]
    async fn the_name_of_a_cluster_must_be_typed() {
        for stdin in ["", "y\n", "yes\n", "d\n"] {
            let coordinator = cluster();
            let refused = delete(&coordinator, &query(false, false), stdin).await.expect_err("not confirmed");
            assert!(refused.ends_with("not confirmed; nothing was changed"), "{refused}");
            assert_eq!(coordinator.ids(), ["c"], "{stdin:?}");
        }
        let coordinator = cluster();
        coordinator.put(Resource::of("c-1", &BackupSpec::default()).in_cluster("c"));
        let (out, err) = delete(&coordinator, &query(false, false), "c\n").await.expect("deleted");
        assert!(out.contains("a backup every 1h0m0s") && out.contains("its backups in the store"), "{out}");
        assert!(out.contains("registers it again, without a schedule"), "{out}");
        assert_eq!((err.as_str(), coordinator.ids()), (GONE, vec!["c-1".to_owned()]));
    }

    #[tokio::test]
    async fn of_a_cluster_without_a_backup_nothing_is_said_to_be_kept() {
        let (out, _) = delete(&cluster(), &query(true, false), "").await.expect("deleted");
        assert!(out.contains("Kept:     nothing: the store has no backup of it\n"), "{out}");
        let text = kept(None, Err("backup storage is not available: gone".into()));
        assert_eq!(
            text,
            "its backups, if the store has any (it could not be asked: backup storage is not available: gone)"
        );
    }

    #[tokio::test]
    async fn nobody_is_asked_where_somebody_said_yes_or_changes_nothing() {
        let coordinator = cluster();
        let (out, err) = delete(&coordinator, &query(false, true), "").await.expect("tried");
        assert!(out.contains("Deleted:") && !out.contains("Type"), "{out}");
        assert_eq!(err, GONE.replace("destroyed", "destroyed (dry run)"));
        assert_eq!(coordinator.ids(), ["c"]);
        delete(&coordinator, &query(true, false), "").await.expect("deleted");
        assert!(coordinator.ids().is_empty());
        let error = delete(&coordinator, &query(true, false), "").await;
        let expected = "failed to delete Clusters.omni.sidero.dev(default/c): resource Clusters.omni.sidero.dev(default/c) doesn't exist";
        assert_eq!(error, Err(expected.into()));
    }

    #[tokio::test]
    async fn a_script_says_yes() {
        let (api, coordinator) = (Api::new(cluster()), cluster());
        let no_terminal = capture(async |console| {
            console.asks = false;
            run(&api, &query(false, false), &mut "c\n".as_bytes(), console).await
        });
        let error = no_terminal.await.expect_err("stdin is not a terminal");
        assert!(error.ends_with("stdin is not a terminal; pass --yes to skip the confirmation"), "{error}");
        assert_eq!(coordinator.ids(), ["c"]);
        // A cluster that is not there is told first.
        let api = Api::new(Coordinator::default());
        let nobody = capture(async |console| {
            console.asks = false;
            run(&api, &query(false, false), &mut std::io::empty(), console).await
        });
        let error = nobody.await.expect_err("no such cluster");
        assert!(error.ends_with("resource Clusters.omni.sidero.dev(default/c) doesn't exist"), "{error}");
    }

    #[tokio::test]
    async fn what_is_refused_is_refused_before_anybody_is_asked() {
        let coordinator = cluster().refusing("c", "1 agent of cluster \"c\" is connected");
        let error = delete(&coordinator, &query(false, false), "c\n").await.expect_err("refused");
        assert!(error.contains("1 agent of cluster"), "{error}");
        assert_eq!(coordinator.calls(), ["[delete c]"]);
        let error = delete(&Coordinator::absent(), &query(true, false), "").await;
        assert_eq!(error, Err("no coordinator answers on nats://h (absent)".into()));
    }

    #[tokio::test]
    async fn a_coordinator_of_an_earlier_build_deletes_all_the_same() {
        let coordinator = cluster().earlier();
        delete(&coordinator, &query(true, false), "").await.expect("deleted");
        assert_eq!(coordinator.calls(), ["[delete c]", "delete c"]);
        let coordinator = cluster().earlier();
        delete(&coordinator, &Query { force: true, ..query(true, false) }, "").await.expect("deleted");
        assert!(coordinator.ids().is_empty());
        let coordinator = cluster().earlier();
        assert!(delete(&coordinator, &query(false, true), "").await.is_err(), "it cannot try");
        assert_eq!(coordinator.ids(), ["c"]);
    }

    #[tokio::test]
    async fn other_types_are_deleted_without_a_question() {
        let coordinator = Coordinator::with([Resource::of("s", &backstay_protocol::spec::MachineSetSpec::default())]);
        let (definition, ids) = (&types::MACHINE_SETS, vec!["s".to_owned()]);
        let query = Query { definition, ids, ..query(false, false) };
        let done = delete(&coordinator, &query, "").await;
        assert_eq!(done, Ok((String::new(), "destroyed MachineSets.omni.sidero.dev(default/s)\n".into())));
    }
}
