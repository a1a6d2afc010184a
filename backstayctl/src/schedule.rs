//! `schedule`: shows or sets how often a cluster is backed up.

use backstay_protocol::api::ErrorCode;
use backstay_protocol::resource::Resource;
use backstay_protocol::spec::{ClusterSpec, Interval as Seconds};
use backstay_protocol::{duration, types};
use serde_json::{Value, json};

use super::api::{Api, CallError, Transport};
use super::arguments::operate::Interval;
use super::console::{Console, Failure};
use super::{listing, meant};

/// How often a change is repeated if somebody else has changed the resource meanwhile.
const TRIES: usize = 5;

/// Shows the schedule of a cluster; sets it first if `interval` is given.
///
/// # Errors
/// There is no such cluster, or the coordinator refuses the interval.
pub async fn run<T: Transport>(
    api: &Api<T>,
    cluster: &str,
    interval: Option<Interval>,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    listing::must_be_name(cluster)?;
    let shown = match interval {
        None => find(api, cluster).await?,
        Some(interval) => set(api, cluster, interval).await?,
    };
    Ok(console.print(&text(&shown)?)?)
}

async fn find<T: Transport>(api: &Api<T>, cluster: &str) -> Result<Resource, Failure> {
    match api.find(&types::CLUSTERS, cluster).await? {
        Some(found) => Ok(found),
        None => Err(meant::no_cluster(api, cluster).await),
    }
}

/// Writes the resource as it was read, except for the schedule. It contains the version, so that nobody's change is
/// undone: if somebody else was faster, it is read again.
async fn set<T: Transport>(api: &Api<T>, cluster: &str, interval: Interval) -> Result<Resource, Failure> {
    let mut tries = TRIES;
    loop {
        let mut resource = find(api, cluster).await?;
        change(&mut resource.spec, interval);
        tries -= 1;
        match api.apply(&types::CLUSTERS, resource, false).await {
            Ok(response) => return Ok(response.resource),
            Err(CallError::Refused(error)) if error.code == ErrorCode::Conflict && tries > 0 => {}
            Err(CallError::Refused(reason)) => {
                return Err(Failure::Schedule { cluster: cluster.to_owned(), reason: reason.to_string() });
            }
            Err(other) => return Err(other.into()),
        }
    }
}

/// Changes only the schedule, even in a spec with fields that this version does not know.
fn change(spec: &mut Value, interval: Interval) {
    let configuration = &mut spec["backupconfiguration"];
    if !configuration.is_object() {
        *configuration = json!({ "interval": null });
    }
    match interval {
        Interval::Off => configuration["enabled"] = false.into(),
        Interval::Every(every) => {
            let every = Seconds::from(every);
            configuration["interval"] = json!({ "seconds": every.seconds, "nanos": every.nanos });
            // An interval without `enabled` is on, as a template writes it.
            configuration.as_object_mut().and_then(|fields| fields.remove("enabled"));
        }
    }
}

fn text(cluster: &Resource) -> Result<String, Failure> {
    let name = &cluster.metadata.id;
    let unreadable = |error: serde_json::Error| Failure::Schedule { cluster: name.clone(), reason: error.to_string() };
    let spec = cluster.typed::<ClusterSpec>().map_err(unreadable)?;
    let said = spec.backupconfiguration.as_ref();
    let kept = said.and_then(|said| said.interval).map(|kept| kept.as_duration()).filter(|kept| !kept.is_zero());
    Ok(match (spec.backup_interval(), said.and_then(|said| said.enabled), kept) {
        (Some(every), ..) => format!("{name}: a backup every {}\n", duration::format(every)),
        (None, Some(false), Some(kept)) => {
            let kept = duration::format(kept);
            format!("{name}: automatic backups are off (turn them on again: backstayctl schedule {name} {kept})\n")
        }
        (None, Some(false), None) => format!("{name}: automatic backups are off\n"),
        (None, ..) => format!("{name}: no schedule is set (set one: backstayctl schedule {name} 1h)\n"),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::testing::{Coordinator, capture};
    use backstay_protocol::resource::Version;

    fn cluster(configuration: Value) -> Coordinator {
        let mut resource = Resource::of("c", &ClusterSpec::default());
        resource.metadata.version = Version::Number(1);
        resource.spec = json!({ "talosversion": "1.5.5", "backupconfiguration": configuration, "later": { "a": [1] } });
        Coordinator::with([resource])
    }

    async fn schedule(coordinator: &Coordinator, interval: Option<Interval>) -> Result<String, String> {
        let api = Api::new(coordinator.clone());
        capture(async |console| run(&api, "c", interval, console).await).await.map(|(out, _)| out)
    }

    const HOURLY: Option<Interval> = Some(Interval::Every(Duration::from_secs(3600)));

    #[tokio::test]
    async fn it_is_shown_and_nothing_is_changed() {
        for (configuration, shown) in [
            (json!(null), "c: no schedule is set (set one: backstayctl schedule c 1h)\n"),
            (json!({ "interval": { "seconds": 5400, "nanos": 0 } }), "c: a backup every 1h30m0s\n"),
            (json!({ "enabled": false }), "c: automatic backups are off\n"),
            (
                json!({ "interval": { "seconds": 60, "nanos": 0 }, "enabled": false }),
                "c: automatic backups are off (turn them on again: backstayctl schedule c 1m0s)\n",
            ),
        ] {
            let coordinator = cluster(configuration);
            assert_eq!(schedule(&coordinator, None).await, Ok(shown.into()));
            assert!(coordinator.calls().is_empty());
        }
    }

    #[tokio::test]
    async fn only_the_schedule_is_changed() {
        for (before, interval, after) in [
            (json!(null), HOURLY, json!({ "interval": { "seconds": 3600, "nanos": 0 } })),
            (json!({ "enabled": false }), HOURLY, json!({ "interval": { "seconds": 3600, "nanos": 0 } })),
            (json!(null), Some(Interval::Off), json!({ "interval": null, "enabled": false })),
            (
                json!({ "interval": { "seconds": 60, "nanos": 0 } }),
                Some(Interval::Off),
                json!({ "interval": { "seconds": 60, "nanos": 0 }, "enabled": false }),
            ),
        ] {
            let coordinator = cluster(before);
            schedule(&coordinator, interval).await.expect("set");
            let resources = coordinator.resources();
            let spec = &resources[0].spec;
            assert_eq!(spec["backupconfiguration"], after);
            assert_eq!((&spec["talosversion"], &spec["later"]), (&json!("1.5.5"), &json!({ "a": [1] })));
        }
    }

    #[tokio::test]
    async fn a_change_of_somebody_else_is_kept_and_ours_is_made_upon_it() {
        let coordinator = cluster(json!(null)).changing_before_the_next_apply(|cluster| {
            cluster.spec["talosversion"] = json!("1.6.0");
        });
        assert_eq!(schedule(&coordinator, HOURLY).await, Ok("c: a backup every 1h0m0s\n".into()));
        let resources = coordinator.resources();
        assert_eq!(resources[0].spec["talosversion"], json!("1.6.0"));
        assert_eq!(coordinator.calls(), ["apply c", "apply c"]);
    }

    #[tokio::test]
    async fn what_is_refused_is_said_as_the_coordinator_says_it() {
        let refusing = cluster(json!(null)).refusing("c", "backup interval must be at least 1m0s, got 30s");
        let error = schedule(&refusing, HOURLY).await.expect_err("refused");
        assert_eq!(error, "failed to set the schedule of \"c\": backup interval must be at least 1m0s, got 30s");
        let nowhere = schedule(&Coordinator::default(), HOURLY).await;
        assert_eq!(nowhere, Err("cluster \"c\" does not exist: see `backstayctl get clusters`".into()));
    }
}
