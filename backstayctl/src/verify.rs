//! `verify CLUSTER`: has an agent verify a stored backup, and follows that to its end.

use std::time::Duration;

use backstay_daemon::units;
use backstay_protocol::backstay_types::{RunState, VerificationSpec};
use backstay_protocol::resource::Resource;
use backstay_protocol::{Timestamp, duration, machines, types};
use tokio::time::MissedTickBehavior;
use uuid::Uuid;

use super::api::{Api, CallError, Transport};
use super::cluster_restore::choose::SnapshotSelector;
use super::console::{Console, Failure};
use super::interrupt::{Ended, follow};
use super::output::{self, Format};
use super::progress::Progress;
use super::{listing, meant, refused};

/// How often the progress is queried.
const LOOK: Duration = Duration::from_secs(1);

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    pub cluster: String,
    /// Empty: the newest.
    pub snapshot: String,
    pub boot: bool,
    pub timeout: Duration,
    /// Text for people, or the resource as `get` prints it.
    pub format: Format,
}

impl Query {
    /// # Errors
    /// The backup's name is none.
    pub fn new(
        cluster: String,
        snapshot: &str,
        boot: bool,
        timeout: Duration,
        format: Format,
    ) -> Result<Self, backstay_protocol::NameError> {
        let snapshot = match SnapshotSelector::parse_snapshot(snapshot)? {
            SnapshotSelector::Named(name) => name.to_string(),
            SnapshotSelector::Latest | SnapshotSelector::Before(_) => String::new(),
        };
        Ok(Self { cluster, snapshot, boot, timeout, format })
    }
}

/// Verifies a stored backup and waits for the end.
///
/// # Errors
/// The request is refused, the verification fails, or it does not end in time.
pub async fn run<T: Transport>(api: &Api<T>, query: &Query, console: &mut Console<'_>) -> Result<(), Failure> {
    let cluster = query.cluster.as_str();
    listing::must_be_name(cluster)?;
    let id = Uuid::new_v4().to_string();
    let spec = VerificationSpec {
        verify: id.clone(),
        snapshot: query.snapshot.clone(),
        boot: query.boot,
        ..VerificationSpec::default()
    };
    match api.apply(&types::VERIFICATIONS, Resource::of(cluster, &spec), false).await {
        Err(CallError::Refused(reason)) if meant::is_no_cluster(&reason, cluster) => {
            return Err(meant::no_cluster(api, cluster).await);
        }
        Err(CallError::Refused(reason)) => {
            return Err(failed(cluster, &refused::reason(api, cluster, &query.snapshot, &reason).await));
        }
        asked => asked?,
    };
    let interrupts = console.interrupts.clone();
    match follow(interrupts, query.timeout, to_the_end(api, query, &id, console)).await {
        Ended::Done(end) => end,
        Ended::Interrupted => Err(Failure::Interrupted {
            what: format!("The verification of {cluster:?}"),
            follow: format!("backstayctl get verification {cluster} --watch"),
        }),
        Ended::TimedOut => {
            let waited = duration::format(query.timeout);
            let text = format!(
                "it has not ended after {waited} and is still running: see `backstayctl get \
                verification {cluster}`"
            );
            Err(failed(cluster, &text))
        }
    }
}

async fn to_the_end<T: Transport>(
    api: &Api<T>,
    query: &Query,
    id: &str,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let cluster = query.cluster.as_str();
    let for_people = matches!(query.format, Format::Table | Format::Wide);
    let mut show = Progress::new(false);
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let found = match api.find(&types::VERIFICATIONS, cluster).await {
            Ok(found) => found.and_then(|resource| Some((resource.typed::<VerificationSpec>().ok()?, resource))),
            // Whoever leads next goes on with it.
            Err(error) if error.passes() => None,
            Err(other) => return Err(other.into()),
        };
        let Some((spec, resource)) = found else { continue };
        if spec.verify != id {
            return Err(failed(
                cluster,
                "another verification was started in the meantime: see `backstayctl get \
                verification`",
            ));
        }
        if spec.state != RunState::Running && !for_people {
            // Who reads this reads the exit code, too.
            console.print(&output::render(
                &query.format.clone().into(),
                &types::VERIFICATIONS,
                std::slice::from_ref(&resource),
            )?)?;
        }
        match spec.state {
            RunState::Ok if !for_people => return Ok(()),
            RunState::Ok => return Ok(console.print(&end(cluster, &spec))?),
            RunState::Failed => {
                let (cluster, reason) = (cluster.to_owned(), format!("{}: {}", spec.snapshot, spec.error));
                let is_damaged =
                    spec.standing().is_some_and(|failed| failed.damaged && failed.snapshot == spec.snapshot);
                return Err(match is_damaged {
                    true => Failure::Damaged { cluster, reason },
                    false => Failure::Verify { cluster, reason },
                });
            }
            RunState::Running => show.message(line(&spec), console)?,
        }
    }
}

fn line(spec: &VerificationSpec) -> String {
    match (spec.bytesdone, spec.bytestotal) {
        (_, 0) => format!("verification of {} is starting", spec.snapshot),
        (done, total) if done < total => {
            format!("verification of {}: {} of {}", spec.snapshot, units::bytes(done), units::bytes(total))
        }
        _ if spec.boot => format!("verification of {}: all data was read, starting an etcd on it", spec.snapshot),
        _ => format!("verification of {}: all data was read", spec.snapshot),
    }
}

fn end(cluster: &str, spec: &VerificationSpec) -> String {
    let took = match (spec.started, spec.ended) {
        (Some(started), Some(ended)) => format!(" in {}", units::took(ended.since(started))),
        _ => String::new(),
    };
    let machine = machines::called(&spec.member, &spec.host, &spec.machine);
    let found = spec.found.replace("; ", "\n  ");
    format!("* {} of {cluster} was verified{took} by machine {machine}\n  {found}\n", spec.snapshot)
}

/// `3h ago, booted`; empty if no verification has ever succeeded.
pub fn last(spec: &VerificationSpec, now: Timestamp) -> String {
    spec.lastproven.map(|at| format!("{}, {}", units::ago(at, now), spec.provenhow)).unwrap_or_default()
}

fn failed(cluster: &str, reason: &str) -> Failure {
    Failure::Verify { cluster: cluster.to_owned(), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Coordinator, capture, interrupted_after_a_while};
    use backstay_protocol::backstay_types::PROOF_OF_DAMAGE;

    fn spec(state: RunState) -> VerificationSpec {
        VerificationSpec {
            verify: "v".into(),
            snapshot: "FFFFFFFF9A8AF980.snapshot".into(),
            state,
            machine: "m".into(),
            error: if state == RunState::Failed { "page 7 is no page".into() } else { String::new() },
            found: "all digests match; all pages are intact".into(),
            started: Some(Timestamp::from_seconds(100)),
            ended: Some(Timestamp::from_seconds(103)),
            lastproven: Some(Timestamp::from_seconds(50)),
            provenhow: "booted".into(),
            ..VerificationSpec::default()
        }
    }

    async fn end_of(state: RunState) -> Result<(String, String), String> {
        let api = Api::new(Coordinator::with([Resource::of("one", &spec(state))]));
        let query = Query::new("one".into(), "latest", false, LOOK, Format::Table).expect("a query");
        capture(async |console| to_the_end(&api, &query, "v", console).await).await
    }

    #[tokio::test]
    async fn it_ends_with_what_was_found_or_why_not() {
        let (printed, _) = end_of(RunState::Ok).await.expect("proven");
        assert_eq!(
            printed,
            "* FFFFFFFF9A8AF980.snapshot of one was verified in 3.0s by machine m\n  all digests match\n  all pages are intact\n"
        );
        let error = end_of(RunState::Failed).await.expect_err("not proven");
        assert_eq!(error, "failed to verify a backup of \"one\": FFFFFFFF9A8AF980.snapshot: page 7 is no page");
    }

    #[tokio::test]
    async fn in_another_form_it_is_the_resource_whatever_came_of_it() {
        let api = |state| Api::new(Coordinator::with([Resource::of("one", &spec(state))]));
        let query = Query::new("one".into(), "latest", false, LOOK, Format::Json).expect("a query");
        let proven = capture(async |console| to_the_end(&api(RunState::Ok), &query, "v", console).await).await;
        let (out, _) = proven.expect("proven");
        let found: serde_json::Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!(found["metadata"]["type"], "Verifications.backstay.dev");
        assert_eq!(found["spec"]["snapshot"], "FFFFFFFF9A8AF980.snapshot");
        // What failed is printed, and is an error all the same.
        let (mut printed, mut remarks, api) = (Vec::new(), Vec::new(), api(RunState::Failed));
        let mut console = Console::of(&mut printed, &mut remarks);
        let error = to_the_end(&api, &query, "v", &mut console).await.expect_err("not proven");
        assert_eq!(error.exit_code(), 1, "it could not be run");
        let damaged = VerificationSpec { found: PROOF_OF_DAMAGE.into(), ..spec(RunState::Failed) };
        let api = Api::new(Coordinator::with([Resource::of("one", &damaged)]));
        let error = to_the_end(&api, &query, "v", &mut Console::of(&mut Vec::new(), &mut Vec::new())).await;
        assert_eq!(error.expect_err("damaged").exit_code(), 3);
        let found: serde_json::Value = serde_json::from_slice(&printed).expect("JSON");
        assert_eq!(found["spec"]["error"], "page 7 is no page");
    }

    #[tokio::test(start_paused = true)]
    async fn an_interruption_says_that_it_goes_on_and_how_to_follow_it() {
        let api = Api::new(Coordinator::default());
        let hours = Duration::from_secs(7200);
        let query = Query::new("one".into(), "latest", false, hours, Format::Table).expect("a query");
        let interrupted = interrupted_after_a_while(async |console| run(&api, &query, console).await);
        let said = "Interrupted. The verification of \"one\" goes on: follow it with `backstayctl get verification one --watch`";
        assert_eq!(interrupted.await, said);
    }

    #[test]
    fn the_last_proof_is_said_with_its_way() {
        assert_eq!(last(&spec(RunState::Failed), Timestamp::from_seconds(110)), "1m ago, booted");
        assert_eq!(last(&VerificationSpec::default(), Timestamp::from_seconds(110)), "");
        assert!(Query::new("one".into(), "newest", false, LOOK, Format::Table).is_err());
    }

    #[test]
    fn how_far_it_is_stands_in_one_line() {
        let running = VerificationSpec { bytesdone: 512, bytestotal: 2048, boot: true, ..spec(RunState::Running) };
        assert!(line(&running).ends_with(": 512 B of 2.0 KiB"));
        assert!(line(&VerificationSpec { bytesdone: 2048, ..running }).ends_with("starting an etcd on it"));
    }
}
