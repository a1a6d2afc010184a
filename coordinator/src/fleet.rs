//! The connected agents, from their latest beats. Only in memory, since beats are repeated.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Mutex;
use std::time::Duration;

use backstay_protocol::bus::{Beat, Progress};
use backstay_protocol::time::clock_is_off;
use backstay_protocol::{AttemptId, ClusterName, MachineId, Timestamp};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::agent_coverage::Names;
use crate::member::Candidate;
use crate::twins::Twins;

/// How many beats may be missed before an agent counts as disconnected.
const MISSED_MAX: u32 = 3;
/// Additional time for a busy machine or network.
const GRACE: Duration = Duration::from_secs(1);
/// An agent's clock counts as wrong when its beats have said so for this long: one beat may be late, and the
/// coordinator's own clock may have just been set.
const OFF_FOR: Duration = Duration::from_secs(30);
const BEAT_INTERVAL_DEFAULT: Duration = Duration::from_secs(5);
const BEAT_INTERVAL_MAX: Duration = Duration::from_secs(60);

/// One agent, according to its latest beat.
#[derive(Debug, Clone)]
pub struct Agent {
    pub beat: Beat,
    pub seen: Instant,
    /// When that beat arrived, for people.
    pub seen_at: Timestamp,
    /// etcd's cluster id as this agent last knew it; known even while its etcd does not answer.
    pub etcd_cluster: Option<u64>,
    /// When its beats began to show a wrong clock.
    pub off_since: Option<Instant>,
    /// What is wrong with its clock, once that has lasted long enough.
    pub clock: Option<String>,
    /// Other agents that use the same machine UUID.
    pub twins: Twins,
}

impl Agent {
    /// How long this agent may be silent.
    pub fn patience(&self) -> Duration {
        let interval = match self.beat.beat_interval_ms {
            0 => BEAT_INTERVAL_DEFAULT,
            ms => Duration::from_millis(ms.into()).min(BEAT_INTERVAL_MAX),
        };
        interval * MISSED_MAX + GRACE
    }

    pub fn alive(&self, now: Instant) -> bool {
        now.duration_since(self.seen) <= self.patience()
    }

    /// Why nothing can be asked of it: another agent uses the same machine UUID, and commands reach both.
    pub fn twin(&self, machine: MachineId, now: Instant) -> Option<String> {
        self.twins.text(machine, &self.beat, now, self.patience())
    }

    /// The attempt that it is working on.
    pub fn attempt(&self) -> Option<AttemptId> {
        self.beat.attempt.parse().ok()
    }
}

/// Now, by both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    pub monotonic: Instant,
    pub wall: Timestamp,
    /// By the clock with which those of agents are compared, and whose clock that is.
    pub judge: (Timestamp, &'static str),
}

type Machines = BTreeMap<MachineId, Agent>;

/// How many silent machines of a cluster are remembered by name. There is a limit since whoever may send beats can
/// invent machines.
const REMEMBERED_MAX: usize = 64;

/// Every agent whose beats arrive.
#[derive(Debug)]
pub struct Fleet {
    clusters: Mutex<BTreeMap<ClusterName, Machines>>,
    /// The names of machines that have become silent: their attempts end later, and errors name them.
    silent: Mutex<BTreeMap<ClusterName, BTreeMap<MachineId, Names>>>,
    /// Clusters that are being restored: their members change to another etcd cluster, one after the other.
    changing: Mutex<BTreeSet<ClusterName>>,
    changed: watch::Sender<u64>,
}

impl Default for Fleet {
    fn default() -> Self {
        Self {
            clusters: Mutex::default(),
            silent: Mutex::default(),
            changing: Mutex::default(),
            changed: watch::Sender::new(0),
        }
    }
}

impl Fleet {
    /// Records a beat; true if the agent was not connected before.
    pub fn note(&self, cluster: &ClusterName, machine: MachineId, beat: Beat, now: Now) -> bool {
        let mut clusters = self.lock();
        let machines = clusters.entry(cluster.clone()).or_default();
        self.remember_silent(cluster, machines.extract_if(.., |_, agent| !agent.alive(now.monotonic)));
        let before = machines.get(&machine).and_then(|agent| agent.etcd_cluster);
        let etcd_cluster = beat.member.as_ref().map(|m| m.cluster_id).or(before);
        let differs = etcd_cluster != before
            && machines.values().any(|a| a.etcd_cluster.is_some_and(|id| Some(id) != etcd_cluster));
        let last = machines.get(&machine);
        // An agent of before does not say when it sent this.
        let ahead_ms = (beat.sent_at_ms != 0).then(|| beat.sent_at_ms.saturating_sub(now.judge.0.as_millis()));
        let off = ahead_ms.and_then(|ahead| clock_is_off(ahead, now.judge.1));
        let off_since = off.as_ref().map(|_| last.and_then(|last| last.off_since).unwrap_or(now.monotonic));
        let lasts = off_since.is_some_and(|since| now.monotonic.duration_since(since) >= OFF_FOR);
        let clock = off.filter(|_| lasts);
        if clock.is_some() != last.is_some_and(|last| last.clock.is_some()) {
            match &clock {
                Some(off) => warn!(%cluster, %machine, "the agent's clock is {off}: correct the clock of its machine"),
                None => info!(%cluster, %machine, "the agent's clock is right again"),
            }
        }
        let twins = last.map(|last| last.twins.clone().after(&last.beat, last.seen, &beat)).unwrap_or_default();
        let agent = Agent { beat, seen: now.monotonic, seen_at: now.wall, etcd_cluster, off_since, clock, twins };
        let twin = agent.twin(machine, now.monotonic);
        let had_twin = last.is_some_and(|last| last.twin(machine, now.monotonic).is_some());
        let new = machines.insert(machine, agent).is_none();
        drop(clusters);
        if let Some(twin) = twin.filter(|_| !had_twin) {
            warn!(%cluster, %machine, "{twin}");
        }
        if differs && !self.lock_changing().contains(cluster) {
            warn!(%cluster, %machine, "two etcd clusters have the same name: ignoring the newer one");
        }
        if new {
            self.changed.send_modify(|n| *n += 1);
        }
        new
    }

    /// Sets whether the cluster's etcd cluster id is expected to change.
    pub fn expect_change(&self, cluster: &ClusterName, expected: bool) {
        let mut changing = self.lock_changing();
        if !expected {
            changing.remove(cluster);
        } else if !changing.contains(cluster) {
            changing.insert(cluster.clone());
        }
    }

    /// Records how far an agent's attempt is, as its next beat would. It is dropped if the agent is not connected.
    pub fn note_progress(&self, cluster: &ClusterName, machine: MachineId, progress: Progress) {
        if let Some(agent) = self.lock().get_mut(cluster).and_then(|machines| machines.get_mut(&machine)) {
            agent.beat.progress = Some(progress);
        }
    }

    /// Every connected agent, by cluster and machine.
    pub fn everybody(&self, now: Instant) -> Vec<(ClusterName, MachineId, Agent)> {
        let clusters = self.lock();
        let all =
            clusters.iter().flat_map(|(name, machines)| machines.iter().map(move |(id, agent)| (name, id, agent)));
        all.filter(|(_, _, agent)| agent.alive(now)).map(|(n, id, agent)| (n.clone(), *id, agent.clone())).collect()
    }

    /// A number that rises whenever an agent connects.
    pub fn arrivals(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The connected agents of a cluster.
    pub fn agents(&self, cluster: &ClusterName, now: Instant) -> Machines {
        let clusters = self.lock();
        let alive = |(machine, agent): (&MachineId, &Agent)| agent.alive(now).then(|| (*machine, agent.clone()));
        clusters.get(cluster).map(|m| m.iter().filter_map(alive).collect()).unwrap_or_default()
    }

    /// The etcd cluster id that the agents of one cluster should have: that of the last good backup while an agent
    /// still has it, otherwise the one on which they agree.
    pub fn cluster_id(&self, cluster: &ClusterName, recorded: Option<u64>, now: Instant) -> Option<u64> {
        let agents = self.agents(cluster, now);
        recorded
            .filter(|id| agents.values().any(|a| a.etcd_cluster == Some(*id)))
            .or_else(|| established_cluster_id(&agents))
    }

    /// An agent's latest beat, even if it has been silent since.
    pub fn last(&self, cluster: &ClusterName, machine: MachineId) -> Option<Agent> {
        self.lock().get(cluster)?.get(&machine).cloned()
    }

    /// What a machine is called, according to its agent's last beat.
    pub fn names(&self, cluster: &ClusterName, machine: MachineId) -> Names {
        let clusters = self.lock();
        if let Some(agent) = clusters.get(cluster).and_then(|machines| machines.get(&machine)) {
            return Names::of(&agent.beat);
        }
        self.lock_silent().get(cluster).and_then(|names| names.get(&machine)).cloned().unwrap_or_default()
    }

    fn remember_silent(&self, cluster: &ClusterName, silent: impl Iterator<Item = (MachineId, Agent)>) {
        for (machine, agent) in silent {
            let mut remembered = self.lock_silent();
            let names = remembered.entry(cluster.clone()).or_default();
            if names.len() >= REMEMBERED_MAX {
                names.clear();
            }
            names.insert(machine, Names::of(&agent.beat));
        }
    }

    fn lock_silent(&self) -> std::sync::MutexGuard<'_, BTreeMap<ClusterName, BTreeMap<MachineId, Names>>> {
        self.silent.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The connected agents as candidates for an attempt.
    pub fn candidates(&self, cluster: &ClusterName, now: Instant) -> Vec<Candidate> {
        let candidate = |(machine, agent): (MachineId, Agent)| Candidate {
            machine,
            busy: agent.attempt().is_some(),
            twin: agent.twin(machine, now),
            member: agent.beat.member.ok_or(agent.beat.etcd_error),
        };
        self.agents(cluster, now).into_iter().map(candidate).collect()
    }

    fn lock_changing(&self) -> std::sync::MutexGuard<'_, BTreeSet<ClusterName>> {
        self.changing.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<ClusterName, Machines>> {
        // Nothing that can panic runs while the lock is held, so what it guards is whole.
        self.clusters.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The etcd cluster id on which the members of one cluster agree: that of most of them, and of the longest-running
/// agent if there is a tie. So a newcomer from another cluster does not change it.
fn established_cluster_id(agents: &Machines) -> Option<u64> {
    let mut votes: HashMap<u64, (usize, i64)> = HashMap::new();
    for agent in agents.values() {
        if let Some(id) = agent.etcd_cluster {
            let vote = votes.entry(id).or_insert((0, i64::MAX));
            vote.0 += 1;
            vote.1 = vote.1.min(agent.beat.started_at_ms);
        }
    }
    votes.into_iter().max_by_key(|(_, (count, oldest))| (*count, std::cmp::Reverse(*oldest))).map(|(id, _)| id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use backstay_protocol::bus::Member;
    use uuid::Uuid;

    fn beat(cluster_id: u64, started_at_ms: i64) -> Beat {
        Beat {
            member: Some(Member { cluster_id, ..Member::default() }),
            started_at_ms,
            beat_interval_ms: 1000,
            ..Beat::default()
        }
    }

    fn now() -> Now {
        let wall = Timestamp::from_seconds(1_000);
        Now { monotonic: Instant::now(), wall, judge: (wall, "NATS's") }
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_misses_its_beats_is_gone() {
        let fleet = Fleet::default();
        let name: ClusterName = "one".parse().expect("a name");
        let machine = MachineId(Uuid::from_u128(1));
        assert!(fleet.note(&name, machine, beat(1, 0), now()));
        assert!(!fleet.note(&name, machine, beat(1, 0), now()));
        tokio::time::advance(Duration::from_secs(4)).await;
        assert_eq!(fleet.agents(&name, Instant::now()).len(), 1);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(fleet.agents(&name, Instant::now()).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_is_gone_is_called_by_its_name() {
        let fleet = Fleet::default();
        let name: ClusterName = "one".parse().expect("a name");
        let machine = |number| MachineId(Uuid::from_u128(number));
        let hosted = |number: u128| Beat { host: format!("cp-{number}"), ..beat(1, 0) };
        fleet.note(&name, machine(1), hosted(1), now());
        tokio::time::advance(Duration::from_secs(60)).await;
        fleet.note(&name, machine(2), hosted(2), now());
        assert!(fleet.last(&name, machine(1)).is_none());
        assert_eq!(fleet.names(&name, machine(1)).host, "cp-1");
        // However many are made up, few are kept.
        for number in 100..1000 {
            fleet.note(&name, machine(number), hosted(number), now());
        }
        tokio::time::advance(Duration::from_secs(60)).await;
        fleet.note(&name, machine(3), hosted(3), now());
        assert!(fleet.lock_silent()[&name].len() <= REMEMBERED_MAX);
    }

    #[tokio::test]
    async fn a_clock_that_is_off_is_said_once_that_lasts_and_taken_back() {
        let fleet = Fleet::default();
        let (name, machine): (ClusterName, _) = ("one".parse().expect("a name"), MachineId(Uuid::from_u128(1)));
        let begin = Instant::now();
        // At so many seconds, a beat that was sent at so many milliseconds; the time is always 1,000 s.
        let clock = |seconds: u64, sent_at_ms: i64| {
            let beat = Beat { sent_at_ms, beat_interval_ms: 60_000, ..beat(1, 0) };
            fleet.note(&name, machine, beat, Now { monotonic: begin + Duration::from_secs(seconds), ..now() });
            fleet.last(&name, machine).expect("it beat").clock
        };
        let off = |text: &str| Some(format!("{text} NATS's"));
        let ahead = [clock(0, 4_600_000), clock(29, 4_600_000), clock(30, 4_601_000)];
        assert_eq!(ahead, [None, None, off("1h0m1s ahead of")]);
        assert_eq!([clock(31, 900_000), clock(32, 940_000)], [off("1m40s behind"), None]);
        // One beat that was long on its way, and an agent that does not say.
        let passing = [clock(33, 900_000), clock(62, 1_000_000), clock(63, 900_000), clock(93, 0)];
        assert!(passing.iter().all(Option::is_none), "{passing:?}");
    }

    #[tokio::test]
    async fn a_newcomer_of_another_cluster_is_not_used() {
        let fleet = Fleet::default();
        let name: ClusterName = "one".parse().expect("a name");
        fleet.note(&name, MachineId(Uuid::from_u128(9)), beat(7, 100), now());
        fleet.note(&name, MachineId(Uuid::from_u128(1)), beat(8, 200), now());
        assert_eq!(fleet.cluster_id(&name, None, Instant::now()), Some(7));
        assert_eq!(fleet.cluster_id(&name, Some(8), Instant::now()), Some(8), "the last good backup's counts more");
        assert_eq!(fleet.cluster_id(&name, Some(5), Instant::now()), Some(7), "unless nobody has it any more");
    }
}
