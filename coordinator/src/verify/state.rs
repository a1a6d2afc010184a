//! A verification as the cluster's record stores it, and how it changes: pure transitions.

use std::time::Duration;

use backstay_protocol::backstay_types::{PROOF_NOT_TRIED, PROOF_OF_DAMAGE, RunState, VerificationSpec};
use backstay_protocol::bus::{Verified, VerifyFailure, VerifyState};
use backstay_protocol::resource::{LABEL_CLUSTER, Resource};
use backstay_protocol::{ClusterName, MachineId, SnapshotName, Timestamp, VerifyId};
use serde::{Deserialize, Serialize};

use super::failed::{FailedProof, FailedProofs};
use crate::agent_coverage::Names;
use crate::reply::Reply;
use crate::restore::Limits;
use crate::restore::model::capped;

/// How often, at most, the number of bytes is written to the record.
const PROGRESS_PAUSE: Duration = Duration::from_secs(3);

/// How often a verification may begin again. An agent that dies of it, for example because etcd needs more memory than
/// the agent's unit may use, would otherwise begin it forever.
const BEGUN_AGAIN_MAX: u32 = 1;

/// The last verification that succeeded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastProven {
    pub at: Timestamp,
    pub snapshot: SnapshotName,
    /// Whether an etcd was started on it, or only its pages were inspected.
    pub booted: bool,
}

/// One verification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    pub id: VerifyId,
    /// Of the resource.
    pub version: u64,
    pub updated: Timestamp,
    pub snapshot: SnapshotName,
    pub sha256: String,
    pub encrypted: bool,
    pub boot: bool,
    pub started: Timestamp,
    pub ended: Option<Timestamp>,
    /// When its agent last answered.
    pub heard: Timestamp,
    pub machine: Option<MachineId>,
    /// Machines that refused.
    pub refused: Vec<MachineId>,
    pub error: String,
    pub found: String,
    pub bytes_done: u64,
    pub bytes_total: u64,
    /// How often its agent began it again.
    #[serde(default)]
    pub begun_again: u32,
    pub last: Option<LastProven>,
    /// With an error: whether its agent said that the backup is at fault. Older agents and records do not distinguish
    /// this; then nothing is known about the backup.
    #[serde(default)]
    pub damaged: bool,
    /// Verifications that failed, of this and of other backups of the cluster.
    #[serde(default, skip_serializing_if = "FailedProofs::is_empty")]
    pub failed: FailedProofs,
}

/// The result of a round.
pub type Heard = Reply<VerifyState>;

impl Verification {
    /// A verification that was requested at `now`.
    pub fn new(
        id: VerifyId,
        snapshot: SnapshotName,
        sha256: String,
        encrypted: bool,
        boot: bool,
        now: Timestamp,
    ) -> Self {
        Self {
            id,
            version: 1,
            updated: now,
            snapshot,
            sha256,
            encrypted,
            boot,
            started: now,
            ended: None,
            heard: now,
            machine: None,
            refused: Vec::new(),
            error: String::new(),
            found: String::new(),
            bytes_done: 0,
            bytes_total: 0,
            begun_again: 0,
            last: None,
            damaged: false,
            failed: FailedProofs::default(),
        }
    }

    /// Takes over what is known from `earlier`.
    pub fn after(self, earlier: Option<&Self>) -> Self {
        let Some(earlier) = earlier else { return self };
        Self { last: earlier.last.clone(), failed: earlier.failures(), ..self }
    }

    /// All failed verifications that are known; an older record has only its own.
    fn failures(&self) -> FailedProofs {
        let mut all = self.failed.clone();
        if let Some(at) = self.ended.filter(|_| !self.error.is_empty() && all.is_empty()) {
            all.note(self.failure(at));
        }
        all
    }

    fn failure(&self, at: Timestamp) -> FailedProof {
        let (snapshot, error) = (self.snapshot, self.error.clone());
        FailedProof { at, snapshot, error, damaged: self.damaged, settled: false }
    }

    /// The failed verification that people must know about.
    pub fn standing(&self) -> Option<FailedProof> {
        self.failures().standing().cloned()
    }

    /// What a verification found wrong with a backup, if no later one has succeeded with it.
    pub fn damage(&self, snapshot: SnapshotName) -> Option<FailedProof> {
        self.failures().damage(snapshot).cloned()
    }

    pub fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// The machine to ask: the one that was asked before, otherwise any that has not refused.
    pub fn next_machine(&self, mut connected: impl Iterator<Item = MachineId>) -> Option<MachineId> {
        self.machine.or_else(|| connected.find(|machine| !self.refused.contains(machine)))
    }

    /// Whether this should replace `before` in the record; a new number of bytes alone is written only now and then.
    pub fn is_news(&self, before: &Self) -> bool {
        let told = |v: &Self| (v.ended, v.machine, v.refused.len(), v.begun_again, v.error.clone());
        told(self) != told(before) || self.updated.since(before.updated) >= PROGRESS_PAUSE
    }

    /// Evaluates the result of a round.
    pub fn fold(&mut self, machine: Option<MachineId>, heard: &Heard, limits: Limits, now: Timestamp) {
        match heard {
            Heard::State(state) if state.verify == self.id.to_string() => {
                self.machine = machine;
                self.heard = now;
                self.begun_again += u32::from(state.bytes_done < self.bytes_done);
                (self.bytes_done, self.bytes_total) = (state.bytes_done, state.bytes_total);
                match (&state.verified, state.ended) {
                    (_, false) if self.begun_again > BEGUN_AGAIN_MAX => {
                        self.fail(
                            "its agent started it again and again: check the agent's log for why it exits",
                            false,
                            now,
                        );
                    }
                    (_, false) => {}
                    (Some(verified), true) => self.proven(verified, now),
                    (None, true) => self.fail(&state.error, state.failure() == VerifyFailure::Backup, now),
                }
            }
            Heard::State(_) | Heard::Stale(_) => {}
            Heard::Refused(text) => {
                self.refused.extend(machine);
                (self.machine, self.bytes_done) = (None, 0);
                self.error = capped(text);
            }
            Heard::Silent(text) => {
                // Where everybody refused, that is why.
                let why = if self.error.is_empty() { text } else { &self.error };
                if now.since(self.heard) > limits.silence {
                    let why = why.clone();
                    self.fail(&why, false, now);
                }
            }
        }
        if !self.has_ended() && now.since(self.started) > limits.prepare {
            self.fail("not ended in time", false, now);
        }
        if matches!(heard, Heard::State(_) | Heard::Refused(_)) || self.ended == Some(now) {
            self.version += 1;
            self.updated = now;
        }
    }

    fn proven(&mut self, verified: &Verified, now: Timestamp) {
        self.error = String::new();
        self.ended = Some(now);
        self.found = describe(verified);
        let booted = !verified.etcd_version.is_empty();
        self.last = Some(LastProven { at: now, snapshot: self.snapshot, booted });
        self.failed.proven(self.snapshot);
    }

    fn fail(&mut self, error: &str, damaged: bool, now: Timestamp) {
        self.error = capped(if error.is_empty() { "the agent gave no reason" } else { error });
        (self.ended, self.damaged) = (Some(now), damaged);
        let failure = self.failure(now);
        self.failed.note(failure);
    }

    /// As people see it; `names` is what its machine is called.
    pub fn resource(&self, cluster: &ClusterName, names: &Names) -> Resource {
        let state = match (self.ended, self.error.as_str()) {
            (None, _) => RunState::Running,
            (Some(_), "") => RunState::Ok,
            (Some(_), _) => RunState::Failed,
        };
        let last = self.last.as_ref();
        // Where it is this very one, the rest says it already.
        let own = |failed: &FailedProof| state == RunState::Failed && Some(failed.at) == self.ended;
        let failed = self.standing().filter(|failed| !own(failed));
        let found = match (state, self.damaged) {
            (RunState::Failed, true) => PROOF_OF_DAMAGE.into(),
            (RunState::Failed, false) => PROOF_NOT_TRIED.into(),
            _ => self.found.clone(),
        };
        let how = |booted: bool| if booted { "booted" } else { "inspected" };
        let spec = VerificationSpec {
            verify: self.id.to_string(),
            snapshot: self.snapshot.to_string(),
            boot: self.boot,
            state,
            machine: self.machine.map(|machine| machine.to_string()).unwrap_or_default(),
            error: self.error.clone(),
            started: Some(self.started),
            ended: self.ended,
            bytesdone: self.bytes_done,
            bytestotal: self.bytes_total,
            found,
            lastproven: last.map(|last| last.at),
            provensnapshot: last.map(|last| last.snapshot.to_string()).unwrap_or_default(),
            provenhow: last.map(|last| how(last.booted).to_owned()).unwrap_or_default(),
            failedat: failed.as_ref().map(|failed| failed.at),
            failedsnapshot: failed.as_ref().map(|failed| failed.snapshot.to_string()).unwrap_or_default(),
            faileddamaged: failed.as_ref().is_some_and(|failed| failed.damaged),
            failederror: failed.map(|failed| failed.error).unwrap_or_default(),
            member: names.member.clone(),
            host: names.host.clone(),
        };
        let mut resource = Resource::of(cluster.as_str(), &spec);
        resource.metadata.stamp(self.version, self.started, self.updated);
        resource.metadata.labels.insert(LABEL_CLUSTER.into(), cluster.to_string());
        resource
    }
}

/// What was found, in one line.
fn describe(verified: &Verified) -> String {
    let mut parts = vec!["all digests match".to_owned()];
    match verified.unknown.as_str() {
        "" => parts
            .push(format!("all pages are intact: revision {}, {} live keys", verified.revision, verified.live_keys)),
        unknown => parts.push(format!("its pages were only partly inspected: {unknown}")),
    }
    if !verified.etcd_version.is_empty() {
        let aside = if verified.auth_set_aside { " (without its users and roles)" } else { "" };
        parts.push(format!(
            "etcd {} started on it{aside}, and {} keys were read back",
            verified.etcd_version, verified.sampled
        ));
        parts.push(match (verified.hash_revision, verified.hash_unknown.as_str()) {
            (0, "") => "HashKV was not compared".into(),
            (0, unknown) => format!("HashKV was not compared: {unknown}"),
            (revision, _) => format!("HashKV {:08x} at revision {revision} matches", verified.hash),
        });
    }
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use uuid::Uuid;

    const LIMITS: Limits = Limits {
        prepare: Duration::from_secs(1_000),
        switch: Duration::from_secs(500),
        silence: Duration::from_secs(60),
    };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn verification() -> Verification {
        let snapshot = SnapshotName::from_unix_seconds(5).expect("in range");
        Verification::new(VerifyId(Uuid::from_u128(1)), snapshot, "ab".into(), true, true, at(0))
    }

    fn machine(n: u128) -> Option<MachineId> {
        Some(MachineId(Uuid::from_u128(n)))
    }

    fn says(change: impl FnOnce(&mut VerifyState)) -> Heard {
        let mut state = VerifyState { verify: Uuid::from_u128(1).to_string(), ..VerifyState::default() };
        change(&mut state);
        Heard::State(Box::new(state))
    }

    #[test]
    fn who_refuses_is_not_asked_again_and_who_works_is() {
        let mut v = verification();
        let connected = || [1, 2].into_iter().filter_map(machine);
        v.fold(machine(1), &Heard::Refused("no etcd".into()), LIMITS, at(1));
        assert_eq!(v.next_machine(connected()), machine(2));
        v.fold(machine(2), &says(|_| ()), LIMITS, at(2));
        assert_eq!((v.next_machine([].into_iter()), v.has_ended()), (machine(2), false));
        let mut v = verification();
        for n in [1, 2] {
            v.fold(machine(n), &Heard::Refused("no etcd".into()), LIMITS, at(1));
        }
        v.fold(None, &Heard::Silent("nobody".into()), LIMITS, at(62));
        assert_eq!((v.has_ended(), v.error.as_str()), (true, "no etcd"));
    }

    #[test]
    fn it_does_not_go_on_for_ever() {
        let mut v = verification();
        v.fold(machine(1), &says(|s| s.bytes_done = 5), LIMITS, at(1_000));
        assert!(!v.has_ended());
        v.fold(machine(1), &says(|s| s.bytes_done = 6), LIMITS, at(1_001));
        assert_eq!((v.has_ended(), v.error.as_str()), (true, "not ended in time"));
        let mut v = verification();
        let verified = Verified::default();
        v.fold(machine(1), &says(|s| (s.ended, s.verified) = (true, Some(verified))), LIMITS, at(1_001));
        assert_eq!((v.has_ended(), v.error.as_str()), (true, ""), "late, and proven");
    }

    #[test]
    fn an_agent_that_dies_of_it_begins_it_twice_at_most() {
        let mut v = verification();
        for (bytes, ended) in [(10, false), (20, false), (0, false), (20, false), (20, false), (1, true)] {
            let before = v.clone();
            v.fold(machine(1), &says(|s| s.bytes_done = bytes), LIMITS, at(2));
            assert_eq!(v.has_ended(), ended, "{v:?}");
            assert!(bytes >= before.bytes_done || v.is_news(&before), "a beginning is kept");
        }
        assert!(v.error.contains("again and again"), "{}", v.error);
        let mut old = serde_json::to_value(&v).expect("plain data");
        assert!(old.as_object_mut().expect("a map").remove("begun_again").is_some());
        assert_eq!(serde_json::from_value::<Verification>(old).expect("an older record").begun_again, 0);
    }

    #[test]
    fn a_failure_keeps_the_last_good_proof() {
        let mut v = verification();
        let verified = Verified { revision: 9, live_keys: 4, etcd_version: "3.5.1".into(), ..Verified::default() };
        v.fold(machine(1), &says(|s| (s.ended, s.verified) = (true, Some(verified))), LIMITS, at(3));
        let last = v.last.clone();
        assert!(v.found.contains("etcd 3.5.1 started on it") && last.as_ref().is_some_and(|l| l.booted), "{}", v.found);
        let mut next = verification().after(Some(&v));
        next.fold(machine(1), &says(|s| (s.ended, s.error) = (true, "a page".into())), LIMITS, at(9));
        assert_eq!((next.last, next.error.as_str()), (last, "a page"));
    }

    #[test]
    fn a_failure_stands_while_the_next_one_runs_and_until_it_is_proven() {
        let ends = |v: &mut Verification, error: &str, fault: VerifyFailure, now| {
            let verified = error.is_empty().then(Verified::default);
            let end =
                says(|s| (s.ended, s.error, s.verified, s.failure) = (true, error.into(), verified, fault.into()));
            v.fold(machine(1), &end, LIMITS, at(now));
        };
        let spec = |v: &Verification| {
            let resource = v.resource(&"one".parse().expect("a name"), &Names::default());
            resource.typed::<VerificationSpec>().expect("its own words")
        };
        for (fault, damaged) in
            [(VerifyFailure::Backup, true), (VerifyFailure::Unspecified, false), (VerifyFailure::NotTried, false)]
        {
            let mut v = verification();
            ends(&mut v, "why", fault, 3);
            let told = spec(&v);
            assert_eq!((told.state, told.failedat), (RunState::Failed, None));
            assert_eq!(told.found, if damaged { PROOF_OF_DAMAGE } else { PROOF_NOT_TRIED });
            let stands = told.standing().expect("it failed");
            assert_eq!((stands.error, stands.damaged, stands.at), ("why", damaged, Some(at(3))));
            let mut next = verification().after(Some(&v));
            let told = spec(&next);
            assert_eq!((told.state, told.failedat, told.faileddamaged), (RunState::Running, Some(at(3)), damaged));
            assert_eq!(told.standing().map(|stands| stands.error), Some("why"));
            assert_eq!(next.damage(v.snapshot).is_some(), damaged);
            ends(&mut next, "", VerifyFailure::Unspecified, 4);
            assert_eq!((spec(&next).standing(), next.damage(v.snapshot)), (None, None));
            // A record that another release wrote, which kept none: it did not know where the fault was.
            let mut old = serde_json::to_value(&v).expect("plain data");
            let map = old.as_object_mut().expect("a map");
            assert!(map.remove("failed").is_some() && map.remove("damaged").is_some());
            let old: Verification = serde_json::from_value(old).expect("an older record");
            assert!(old.standing().is_some_and(|failed| !failed.damaged && failed.at == at(3)));
            assert_eq!((old.damage(v.snapshot), spec(&old).found.as_str()), (None, PROOF_NOT_TRIED));
        }
    }

    proptest! {
        #[test]
        fn it_ends_once_and_what_is_said_of_another_changes_nothing(ends in any::<bool>(), other in 2_u128..9) {
            let mut v = verification();
            let before = v.clone();
            let strange = says(|s| (s.verify, s.ended) = (Uuid::from_u128(other).to_string(), ends));
            v.fold(machine(1), &strange, LIMITS, at(1));
            prop_assert_eq!((v.machine, v.ended), (before.machine, before.ended));
        }
    }
}
