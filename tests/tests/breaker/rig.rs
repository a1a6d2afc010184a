//! A stand with brisk beats and leases, and what people do with it: ask for backups, look at the status.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use backstay_daemon::SystemClock;
use backstay_protocol::Clock;
use backstay_tests::stand::{Agent, StandBuilder};
use backstay_tests::{Output, Stand, eventually};
use serde_json::Value;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::LONG;

/// Stands at the same time: more of them would only make each other slow.
static STANDS: Semaphore = Semaphore::const_new(3);

/// An agent that runs is heard within this; the time of a manual backup must not be more than a minute old.
const HEARD: Duration = Duration::from_secs(40);

const TAIL_LINES: usize = 60;

/// What a coordinator logs when it begins to lead; the epoch follows.
pub const LEADING: &str = "leading epoch=";

/// `status.status` of a backup that is under way.
const RUNNING: u64 = 3;

/// How a command ends, given again while it is refused for want of an agent or of a coordinator: one that was just started
/// may not have been heard yet, or not lead yet.
pub async fn once_heard<F>(deadline: Duration, give: impl Fn() -> F) -> Result<Output>
where
    F: Future<Output = Result<Output>>,
{
    eventually(deadline, || async {
        let output = give().await?;
        let early = ["is connected", "no coordinator answers"].iter().any(|want| output.stderr.contains(want));
        ensure!(!early, "{output:?}");
        Ok(output)
    })
    .await
}

/// A stand and the permit for it, given back when the stand is gone.
pub struct Rig {
    stand: Stand,
    /// The last time that a manual backup was asked for: each one needs a new second.
    asked: i64,
    _permit: SemaphorePermit<'static>,
}

impl Deref for Rig {
    type Target = Stand;

    fn deref(&self) -> &Stand {
        &self.stand
    }
}

impl DerefMut for Rig {
    fn deref_mut(&mut self) -> &mut Stand {
        &mut self.stand
    }
}

/// The harness shows this only where the test failed.
impl Drop for Rig {
    fn drop(&mut self) {
        let coordinators =
            self.stand.coordinators.iter().enumerate().map(|(i, c)| (format!("coordinator {i}"), &c.daemon));
        let agents = self.stand.clusters.iter().flat_map(|c| &c.agents);
        let agents = agents.map(|a| (format!("agent {}", a.machine), &a.daemon));
        for (name, daemon) in coordinators.chain(agents) {
            let log = daemon.log();
            let lines: Vec<&str> = log.lines().collect();
            println!("--- {name}; its log ends:\n{}", lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n"));
        }
    }
}

/// What `get etcdbackupstatus` says of a cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    pub state: u64,
    pub error: String,
    pub last_backup: Value,
    pub last_attempt: Value,
}

impl Status {
    pub fn is_ok(&self) -> bool {
        self.state == 1 && self.error.is_empty() && self.last_backup["seconds"].as_i64().is_some()
    }

    /// Ended, with an error that says something.
    pub fn is_error(&self) -> bool {
        self.state == 2 && !self.error.is_empty()
    }

    pub fn is_running(&self) -> bool {
        self.state == RUNNING
    }
}

/// A manual backup that was asked for.
#[derive(Debug)]
pub struct Round {
    cluster: String,
    seconds: i64,
    /// The status's last attempt when it was asked for.
    before: Value,
}

/// A builder with settings that make failures show soon.
pub fn builder() -> StandBuilder {
    Stand::builder()
        .brisk()
        .coordinator_variable("BACKSTAY_BACKUP__MIN_INTERVAL", "1s")
        .coordinator_variable("BACKSTAY_BACKUP__JITTER", "0s")
        .coordinator_variable("BACKSTAY_BACKUP__RETRY_PAUSE", "1s")
}

impl Rig {
    /// Starts it, configures S3, and waits until every agent is known.
    pub async fn start(builder: StandBuilder) -> Result<Self> {
        let mut rig = Self::start_bare(builder).await?;
        rig.set_up().await?;
        Ok(rig)
    }

    /// Starts it, and no more.
    pub async fn start_bare(builder: StandBuilder) -> Result<Self> {
        let permit = STANDS.acquire().await.context("the semaphore is never closed")?;
        Ok(Self { stand: builder.start().await?, asked: 0, _permit: permit })
    }

    pub async fn set_up(&mut self) -> Result<()> {
        let mut names: Vec<String> = self.clusters.iter().map(|c| c.name.clone()).collect();
        eventually(LONG, || self.configure_s3()).await?;
        for name in names.drain(..) {
            eventually(LONG, || self.uuid(&name)).await?;
            self.agents_known(&name).await?;
        }
        Ok(())
    }

    /// Waits until a coordinator has heard every agent of the cluster.
    pub async fn agents_known(&self, cluster: &str) -> Result<()> {
        for agent in &self.cluster(cluster).agents {
            let machine = agent.machine.to_string();
            let heard = |log: String| log.lines().any(|l| l.contains("agent connected") && l.contains(&machine));
            eventually(LONG, || async {
                ensure!(self.coordinators.iter().any(|c| heard(c.daemon.log())), "{machine} was not heard");
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// What `backstayctl get … -o json` prints, one value per resource.
    pub async fn get(&self, arguments: &[&str]) -> Result<Vec<Value>> {
        let arguments = [&["get"], arguments, &["-o", "json"]].concat();
        let text = self.ctl(&arguments).await?.ok()?;
        let values = serde_json::Deserializer::from_str(&text).into_iter().collect::<Result<_, _>>();
        values.with_context(|| format!("{arguments:?} printed {text}"))
    }

    /// The cluster's UUID.
    pub async fn uuid(&self, cluster: &str) -> Result<String> {
        let found = self.get(&["clusteruuid", cluster]).await?;
        let uuid = found.first().and_then(|r| r["spec"]["uuid"].as_str());
        Ok(uuid.context("the resource has no UUID")?.to_owned())
    }

    /// The ids of the backups that are listed, newest first.
    pub async fn listed(&self, cluster: &str) -> Result<Vec<String>> {
        let selector = format!("omni.sidero.dev/cluster={cluster}");
        let found = self.get(&["etcdbackup", "--selector", &selector]).await?;
        Ok(found.iter().map(|r| r["metadata"]["id"].as_str().unwrap_or_default().to_owned()).collect())
    }

    /// The status; one with state 0 where there is none yet.
    pub async fn status(&self, cluster: &str) -> Result<Status> {
        let found = self.get(&["etcdbackupstatus"]).await?;
        let spec = found.iter().find(|r| r["metadata"]["id"] == cluster).map_or(&Value::Null, |r| &r["spec"]);
        Ok(Status {
            state: spec["status"].as_u64().unwrap_or(0),
            error: spec["error"].as_str().unwrap_or_default().to_owned(),
            last_backup: spec["lastbackuptime"].clone(),
            last_attempt: spec["lastbackupattempt"].clone(),
        })
    }

    /// Waits until the status is as `wanted` says.
    pub async fn status_is(&self, cluster: &str, wanted: impl Fn(&Status) -> bool) -> Result<Status> {
        eventually(LONG, || async {
            let status = self.status(cluster).await?;
            ensure!(wanted(&status), "{cluster} is {status:?}");
            Ok(status)
        })
        .await
    }

    /// Asks for a manual backup.
    pub async fn begin(&mut self, cluster: &str) -> Result<Round> {
        let before = eventually(LONG, || self.status(cluster)).await?.last_attempt;
        let seconds = SystemClock.now().seconds.max(self.asked + 1);
        self.asked = seconds;
        let yaml = Stand::manual_backup(cluster, seconds);
        once_heard(HEARD, || self.apply(&yaml)).await?.ok()?;
        Ok(Round { cluster: cluster.to_owned(), seconds, before })
    }

    /// Asks for the backup of a round once more, as a script does that does not know whether it was heard.
    pub async fn ask_again(&self, round: &Round) -> Result<()> {
        let yaml = Stand::manual_backup(&round.cluster, round.seconds);
        eventually(LONG, || async {
            let output = self.apply(&yaml).await?;
            // On a busy machine the time may be too old by now: that changes nothing either.
            if output.stderr.contains("in the past") { Ok(()) } else { output.ok().map(drop) }
        })
        .await
    }

    /// Waits until the backup of a round has ended, well or not.
    pub async fn end(&self, round: &Round) -> Result<Status> {
        let ended = |status: &Status| matches!(status.state, 1 | 2) && status.last_attempt != round.before;
        self.status_is(&round.cluster, ended).await
    }

    /// Asks for a manual backup and waits for its end.
    pub async fn back_up(&mut self, cluster: &str) -> Result<Status> {
        let round = self.begin(cluster).await?;
        self.end(&round).await
    }

    /// The same, and it must succeed.
    pub async fn must_back_up(&mut self, cluster: &str) -> Result<()> {
        let status = self.back_up(cluster).await?;
        ensure!(status.is_ok(), "{cluster} is {status:?}");
        Ok(())
    }

    /// Turns on automatic backups.
    pub async fn set_interval(&self, cluster: &str, seconds: u64) -> Result<()> {
        let backup = format!("{{interval: {{seconds: {seconds}, nanos: 0}}, enabled: true}}");
        self.configure_backups(cluster, &backup).await
    }

    /// The cluster's agents in the order in which they are asked: followers by the ids of their machines, then the
    /// leader.
    pub async fn order(&self, cluster: &str) -> Result<Vec<usize>> {
        let cluster = self.cluster(cluster);
        let leader = cluster.etcd.leader().await?;
        let mut order: Vec<usize> = (0..cluster.agents.len()).collect();
        order.sort_by_key(|&i| (i == leader, cluster.agents[i].machine));
        Ok(order)
    }

    /// The epoch in which that coordinator led last.
    pub fn epoch(&self, coordinator: usize) -> Result<u64> {
        let log = self.coordinators[coordinator].daemon.log();
        let (_, text) = log.rsplit_once(LEADING).context("it never led")?;
        let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().with_context(|| format!("no epoch in {text:?}"))
    }

    pub fn agent(&mut self, cluster: &str, index: usize) -> &mut Agent {
        &mut self.cluster_mut(cluster).agents[index]
    }
}
