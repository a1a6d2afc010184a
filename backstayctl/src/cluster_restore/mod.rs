//! `restore CLUSTER`: selects the backup, shows the plan, asks for confirmation, and follows the restore to its end.

pub mod arguments;
pub mod back;
pub mod choose;
pub mod show;

use std::io::Read;
use std::time::Duration;

use backstay_protocol::api::ApiError;
use backstay_protocol::backstay_types::{RestorePhase, RestoreSpec};
use backstay_protocol::resource::{LABEL_CLUSTER, Resource};
use backstay_protocol::spec::ClusterUuidSpec;
use backstay_protocol::{NameError, duration, types};
use tokio::time::MissedTickBehavior;
use uuid::Uuid;

use super::api::{Api, CallError, Transport};
use super::console::{Console, Failure, Unconfirmed};
use super::interrupt::{Ended, follow};
use super::restore::arguments::Restore;
use super::{listing, meant, refused};
use arguments::OfCluster;
use choose::LATEST;
pub use choose::SnapshotSelector;
use show::Show;

/// How often the progress is queried.
const LOOK: Duration = Duration::from_secs(1);

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    pub cluster: String,
    pub which: SnapshotSelector,
    /// The cluster whose data replaces this one's; empty: its own.
    pub of_another: String,
    pub bump: Option<u64>,
    /// Skip the confirmation.
    pub yes: bool,
    /// Print the plan and change nothing.
    pub dry_run: bool,
    pub timeout: Duration,
}

impl Query {
    /// What `restore CLUSTER` asks for; `None` if no cluster is named.
    ///
    /// # Errors
    /// The backup's name is none.
    pub fn of(arguments: &Restore) -> Result<Option<Self>, NameError> {
        let Some(cluster) = arguments.cluster.clone() else { return Ok(None) };
        let OfCluster { before, data_of_another_cluster, yes, timeout } = &arguments.of_cluster;
        Ok(Some(Self {
            cluster,
            which: SnapshotSelector::of(arguments.snapshot.as_deref(), before.as_ref())?,
            of_another: data_of_another_cluster.clone(),
            bump: arguments.from_store.bump_revision,
            yes: *yes,
            dry_run: arguments.dry_run,
            timeout: *timeout,
        }))
    }
}

impl Query {
    /// The cluster whose backup it is.
    fn source(&self) -> &str {
        if self.of_another.is_empty() { &self.cluster } else { &self.of_another }
    }
}

/// Restores a cluster: shows the plan, asks for confirmation, and follows the restore to its end.
///
/// # Errors
/// The request is refused or not confirmed, the restore fails, or it does not end in time.
pub async fn run<T: Transport>(
    api: &Api<T>,
    query: &Query,
    stdin: &mut dyn Read,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let cluster = query.cluster.as_str();
    listing::must_be_name(cluster)?;
    let mut request = request(api, query).await?;
    let plan = match api.apply(&types::RESTORES, request.clone(), true).await.map_err(|cause| older(query, cause)) {
        Err(CallError::Refused(reason)) if meant::is_no_cluster(&reason, cluster) => {
            return Err(meant::no_cluster(api, cluster).await);
        }
        Err(CallError::Refused(reason)) => {
            let (snapshot, _) = query.which.asked_for();
            return Err(failed(cluster, &refused::reason(api, query.source(), &snapshot, &reason).await));
        }
        plan => plan?,
    };
    // What is refused is refused before anybody is asked.
    if !query.yes && !query.dry_run {
        console.can_ask().map_err(|why| failed(cluster, &why.to_string()))?;
    }
    let planned: RestoreSpec = plan.resource.typed().map_err(|e| failed(cluster, &e.to_string()))?;
    // The folders that are set aside get the names that this plan shows.
    request.spec["started"] = plan.resource.spec["started"].clone();
    console.print(&show::plan(cluster, &planned))?;
    plan.notes.iter().try_for_each(|note| console.remark(&format!("Note: {note}")))?;
    if query.dry_run {
        return Ok(console.remark("Nothing was changed (dry run).")?);
    }
    if !query.yes && !console.typed("Type the name of the cluster to replace its data: ", cluster, stdin)? {
        return Err(failed(cluster, &Unconfirmed::NotTyped.to_string()));
    }
    // What was agreed to, also where a later backup has come meanwhile.
    request.spec["snapshot"] = planned.snapshot.clone().into();
    if let Some(fields) = request.spec.as_object_mut() {
        fields.remove("before");
    }
    api.apply(&types::RESTORES, request, false).await.map_err(|cause| refused(cluster, cause))?;
    let interrupts = console.interrupts.clone();
    match follow(interrupts, query.timeout, to_the_end(api, cluster, &planned.restore, console)).await {
        Ended::Done(end) => end,
        Ended::Interrupted => Err(Failure::Interrupted {
            what: format!("The restore of {cluster:?}"),
            follow: format!("backstayctl get restore {cluster} --watch"),
        }),
        Ended::TimedOut => {
            let waited = duration::format(query.timeout);
            let text = format!(
                "it has not ended after {waited} and is still running: see `backstayctl get restore {cluster}`"
            );
            Err(failed(cluster, &text))
        }
    }
}

async fn request<T: Transport>(api: &Api<T>, query: &Query) -> Result<Resource, Failure> {
    let source = query.source();
    listing::must_be_name(source)?;
    let Some(uuid) = api.find(&types::CLUSTER_UUIDS, source).await? else {
        return Err(meant::no_cluster(api, source).await);
    };
    let uuid = uuid.typed::<ClusterUuidSpec>().ok().and_then(|spec| spec.uuid);
    let (snapshot, before) = query.which.asked_for();
    let spec = RestoreSpec {
        restore: Uuid::new_v4().to_string(),
        clusteruuid: uuid.map(|uuid| uuid.to_string()).unwrap_or_default(),
        snapshot,
        before,
        dataofanothercluster: query.of_another.clone(),
        bump: query.bump,
        ..RestoreSpec::default()
    };
    Ok(Resource::of(&query.cluster, &spec))
}

async fn to_the_end<T: Transport>(
    api: &Api<T>,
    cluster: &str,
    restore: &str,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let mut show = Show::new(console.bar);
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let found = match api.find(&types::RESTORES, cluster).await {
            Ok(found) => found,
            // Whoever leads next goes on with it.
            Err(error) if error.passes() => {
                show.away(&error, console)?;
                continue;
            }
            Err(other) => return Err(other.into()),
        };
        let Some(spec) = found.and_then(|resource| resource.typed::<RestoreSpec>().ok()) else { continue };
        if spec.restore != restore {
            return Err(failed(cluster, "another restore was started in the meantime: see `backstayctl get restore`"));
        }
        show.look(&spec, console)?;
        match spec.phase {
            RestorePhase::Restored => return Ok(console.print(&show::end(cluster, &spec))?),
            RestorePhase::Failed => {
                return Err(failed(cluster, &format!("{}; {}", spec.error, back::text(&spec))));
            }
            _ => {}
        }
    }
}

/// An older coordinator accepts only the name of a backup: its answer to anything else is explained.
fn older(query: &Query, cause: CallError) -> CallError {
    let source = query.source();
    let takes_names_alone = cause.is_unknown_field("before") || cause.is_no_name(LATEST);
    match (&query.which, takes_names_alone) {
        (SnapshotSelector::Latest | SnapshotSelector::Before(_), true) => {
            CallError::Refused(ApiError::invalid(format!(
                "the coordinator is older than this backstayctl and cannot find the latest backup: update it, or pass \
             --snapshot a name from `backstayctl get etcdbackup --selector {LABEL_CLUSTER}={source}`"
            )))
        }
        _ => cause,
    }
}

fn refused(cluster: &str, cause: CallError) -> Failure {
    match cause {
        CallError::Refused(reason) => failed(cluster, &reason.to_string()),
        other => other.into(),
    }
}

fn failed(cluster: &str, reason: &str) -> Failure {
    Failure::RestoreCluster { cluster: cluster.to_owned(), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests;
