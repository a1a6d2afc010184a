//! `backup`: requests a backup now, and with `--wait` follows it to its end.

pub mod follow;
pub mod show;

use std::time::Duration;

use backstay_protocol::backstay_types::{AgentSpec, BackupRunSpec};
use backstay_protocol::resource::Resource;
use backstay_protocol::spec::{BackupStatusSpec, ManualBackupSpec};
use backstay_protocol::{Clock, Timestamp, duration, types};
use tokio::time::MissedTickBehavior;

use super::api::{Api, CallError, Transport};
use super::console::{Console, Failure};
use super::interrupt::{Ended, follow};
use super::{listing, meant};
use follow::{Follow, Seen};
use show::Show;

/// How often the state is queried; also the shortest time between two lines of output.
const LOOK: Duration = Duration::from_secs(1);
/// The coordinator refuses a time that is further ahead than this.
const AHEAD_SECONDS_MAX: i64 = 60;

/// Requests a backup of `cluster` now, and waits up to `wait` for its end; `None`: not at all.
///
/// # Errors
/// The coordinator does not answer or refuses; or, with `wait`, the backup fails or does not end in time.
pub async fn run<T: Transport>(
    api: &Api<T>,
    cluster: &str,
    wait: Option<Duration>,
    clock: &dyn Clock,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    listing::must_be_name(cluster)?;
    let before = match wait {
        Some(_) => Some(look(api, cluster).await?.0),
        None => None,
    };
    let at = ask(api, cluster, clock.now(), console).await?;
    let (Some(before), Some(wait)) = (before, wait) else {
        return Ok(console.print(&format!(
            "* started a backup of {cluster} as of {}; follow it with `backstayctl runs \
            {cluster}`\n",
            at.rfc3339()
        ))?);
    };
    let interrupts = console.interrupts.clone();
    let end = to_the_end(api, cluster, Follow::new(before.as_ref(), at), console);
    match follow(interrupts, wait, end).await {
        Ended::Done(end) => end,
        Ended::TimedOut => Err(not_ended(api, cluster, wait).await),
        Ended::Interrupted => Err(Failure::Interrupted {
            what: format!("The backup of {cluster:?}"),
            follow: format!("backstayctl runs {cluster}"),
        }),
    }
}

/// Why the end has not come in time: nobody is there who could make the backup, or it takes longer.
async fn not_ended<T: Transport>(api: &Api<T>, cluster: &str, wait: Duration) -> Failure {
    let (cluster, waited) = (cluster.to_owned(), duration::format(wait));
    match listing::of_cluster::<AgentSpec, T>(api, &cluster).await {
        Ok(agents) if agents.is_empty() => {
            let reason = format!(
                "no agent of it is connected, and after {waited} it has not ended: check backstay-agent on the cluster's \
                 machines, then see `backstayctl runs {cluster}`"
            );
            Failure::Backup { cluster, reason }
        }
        _ => Failure::NotEnded { cluster, waited },
    }
}

/// Applies the manual backup. The same second twice would be one backup, so then the next second is used.
async fn ask<T: Transport>(
    api: &Api<T>,
    cluster: &str,
    now: Timestamp,
    console: &mut Console<'_>,
) -> Result<Timestamp, Failure> {
    let last = api.find(&types::ETCD_MANUAL_BACKUPS, cluster).await?;
    let last = last.and_then(|resource| resource.typed::<ManualBackupSpec>().ok()?.backupat).map(|at| at.seconds);
    let taken = last.filter(|last| (now.seconds..now.seconds.saturating_add(AHEAD_SECONDS_MAX)).contains(last));
    let at = Timestamp::from_seconds(taken.map_or(now.seconds, |last| last + 1));
    let resource = Resource::of(cluster, &ManualBackupSpec { backupat: Some(at) });
    let answer = match api.apply(&types::ETCD_MANUAL_BACKUPS, resource, false).await {
        Err(CallError::Refused(reason)) if meant::is_no_cluster(&reason, cluster) => {
            return Err(meant::no_cluster(api, cluster).await);
        }
        Err(CallError::Refused(reason)) => {
            return Err(Failure::Backup { cluster: cluster.to_owned(), reason: reason.to_string() });
        }
        answer => answer?,
    };
    answer.notes.iter().try_for_each(|note| console.remark(&format!("Note: {note}")))?;
    Ok(at)
}

/// The cluster's status and its latest attempts.
async fn look<T: Transport>(
    api: &Api<T>,
    cluster: &str,
) -> Result<(Option<BackupStatusSpec>, Vec<BackupRunSpec>), Failure> {
    let runs = listing::of_cluster::<BackupRunSpec, T>(api, cluster).await?;
    let status = api.find(&types::ETCD_BACKUP_STATUSES, cluster).await?;
    let status = status.and_then(|resource| resource.typed().ok());
    Ok((status, listing::typed(&runs).map(|(_, run)| run).collect()))
}

async fn to_the_end<T: Transport>(
    api: &Api<T>,
    cluster: &str,
    mut follow: Follow,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let mut show = Show::new(cluster, console.bar);
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let (status, runs) = match look(api, cluster).await {
            Ok(seen) => seen,
            // Whoever leads next goes on with what was asked for.
            Err(Failure::Call(error)) if error.passes() => {
                show.away(&error, console)?;
                continue;
            }
            // A coordinator that has just taken over may not know the cluster yet.
            Err(Failure::NoCluster { .. }) => continue,
            Err(other) => return Err(other),
        };
        match follow.look(status.as_ref(), &runs) {
            Seen::Done(run) => return Ok(show.done(run.as_ref(), console)?),
            Seen::Failed(reason) => return Err(Failure::Backup { cluster: cluster.to_owned(), reason }),
            under_way => show.under_way(&under_way, console)?,
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
