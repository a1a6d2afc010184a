//! Attempts as a coordinator sees them, without NATS: replies, the outbox, and what a kill -9 leaves.

use std::path::Path;
use std::sync::Arc;

use backstay_agent::attempt::service::AttemptDependencies;
use backstay_agent::attempt::{Address, Attempts, Member};
use backstay_agent::identity;
use backstay_agent::outbox::Outbox;
use backstay_agent::state::StateDir;
use backstay_archive::manifest::Trigger;
use backstay_archive::store::local::LocalStore;
use backstay_archive::{Manifest, catalog};
use backstay_protocol::bus::{
    self, CancelBackup, FailureCode, RefusalCode, Report, StartBackup, StartReply, report::State, start_reply::Answer,
    store::Kind,
};
use prost::Message;
use tempfile::TempDir;
use uuid::Uuid;

use crate::fake_etcd::{CLUSTER, End, FakeEtcd, REVISION, Script};
use crate::support::{Shelf, StoppedClock, back_up, database};

const CLUSTER_UUID: ClusterId = ClusterId(3);

struct ClusterId(u128);

impl ClusterId {
    fn uuid(&self) -> Uuid {
        Uuid::from_u128(self.0)
    }
}

pub fn id(n: u128) -> String {
    Uuid::from_u128(n).to_string()
}

pub fn address() -> Address {
    Address { cluster: "prod".parse().expect("valid"), machine: id(4).parse().expect("valid") }
}

/// An agent without its bus.
struct Service {
    attempts: Arc<Attempts>,
    outbox: Arc<Outbox>,
}

impl Service {
    fn open(state: &Path, member: Member) -> Self {
        let state = Arc::new(StateDir::open(state).expect("usable"));
        let identity = Arc::new(identity::load_or_create(&state).expect("usable"));
        let outbox = Arc::new(Outbox::open(state.file("outbox")).expect("usable"));
        let clock = Arc::new(StoppedClock);
        let parts = AttemptDependencies {
            address: address(),
            member,
            identity,
            state,
            outbox: Arc::clone(&outbox),
            clock,
            s3_ca: None,
        };
        Self { attempts: Arc::new(Attempts::new(parts)), outbox }
    }

    /// Waits for the next report, takes it away and returns it.
    async fn report(&self) -> Report {
        self.outbox.waiting().wait_for(|n| *n > 0).await.expect("the outbox lives");
        let (number, record) = self.outbox.first().expect("the disk works").expect("one waits");
        self.outbox.done(number);
        assert_eq!(record.subject, format!("backstay.v1.report.prod.{}", id(4)));
        let report = Report::decode(record.payload).expect("a report");
        assert_eq!(record.message_id, report.dedup_id());
        report
    }

    /// Waits until nothing is under way. Reports come before.
    async fn done(&self) {
        while self.attempts.running().is_some() {
            tokio::task::yield_now().await;
        }
    }

    fn nothing_waits(&self) -> bool {
        self.outbox.first().expect("the disk works").is_none()
    }
}

pub fn command(shelf: &Shelf, attempt: u128) -> StartBackup {
    StartBackup {
        version: 1,
        epoch: 5,
        attempt: id(attempt),
        slot: id(2),
        cluster: "prod".into(),
        cluster_uuid: CLUSTER_UUID.uuid().to_string(),
        machine: id(4),
        snapshot: "FFFFFFFF9A99FBF6.snapshot".into(),
        trigger: bus::Trigger::Manual.into(),
        store: Some(bus::Store {
            kind: Some(Kind::Local(bus::LocalStore { path: shelf.path().display().to_string() })),
        }),
        recipients: vec![shelf.identity.to_public().to_string()],
        limits: None,
        etcd_cluster_id: CLUSTER,
    }
}

pub fn refused(reply: StartReply) -> RefusalCode {
    match reply.answer {
        Some(Answer::Refused(refused)) => refused.code(),
        other => panic!("refused, not {other:?}"),
    }
}

pub fn accepted(reply: StartReply, attempt: u128) {
    match reply.answer {
        Some(Answer::Accepted(accepted)) => assert_eq!(accepted.attempt, id(attempt)),
        other => panic!("accepted, not {other:?}"),
    }
}

pub fn failure(report: &Report) -> (FailureCode, &str) {
    match &report.state {
        Some(State::Failed(failed)) => (failed.code(), failed.text.as_str()),
        other => panic!("failed, not {other:?}"),
    }
}

pub fn silent(database: &[u8]) -> Script {
    let whole = Script::healthy(database, 1000);
    Script { frames: whole.frames[..2].to_vec(), end: End::Silence, ..whole }
}

pub async fn only_backup(shelf: &Shelf) -> Manifest {
    let store = LocalStore::open(shelf.path()).expect("there");
    let entries = catalog::list(&store, backstay_protocol::ClusterUuid(CLUSTER_UUID.uuid())).await.expect("listed");
    assert_eq!(entries.len(), 1);
    let manifest = catalog::manifest(&store, entries[0].cluster, entries[0].snapshot).await.expect("readable");
    manifest.expect("there")
}

struct Setup {
    shelf: Shelf,
    state: TempDir,
    etcd: FakeEtcd,
}

impl Setup {
    async fn new(script: Script) -> Self {
        let state = tempfile::tempdir().expect("a folder");
        Self { shelf: Shelf::new(), state, etcd: FakeEtcd::start(script).await }
    }

    fn service(&self) -> Service {
        Service::open(self.state.path(), self.etcd.member())
    }
}

#[tokio::test]
async fn an_attempt_and_once_make_the_same_backup() {
    let sent = database(20);
    let s = Setup::new(Script::healthy(&sent, 1000)).await;
    let service = s.service();
    accepted(service.attempts.start(command(&s.shelf, 1)).await, 1);
    let started = service.report().await;
    assert!(matches!(started.state, Some(State::Started(_))));
    let report = service.report().await;
    let Some(State::Finished(finished)) = &report.state else { panic!("finished, not {report:?}") };
    assert_eq!((finished.revision, finished.snapshot_bytes), (REVISION, sent.len() as u64));
    assert_eq!((report.slot.as_str(), report.machine.as_str(), report.at_ms), (&*id(2), &*id(4), 1_800_000_000_000));
    let by_attempt = only_backup(&s.shelf).await;
    assert_eq!(finished.sealed_bytes, by_attempt.sealed_bytes);
    assert_eq!(s.shelf.open(&by_attempt).await, sent);

    let other = Shelf::new();
    let by_once = back_up(other.once(), &s.etcd.member()).await.expect("a backup").manifest;
    assert_eq!(other.open(&by_once).await, sent);
    assert_eq!((by_attempt.trigger, by_once.trigger), (Trigger::Manual, Trigger::Once));
    assert_eq!(by_attempt.machine, Some(address().machine));
    // What differs is who asked, and the names; the rest is the same pipeline's.
    let same = Manifest {
        cluster_uuid: by_attempt.cluster_uuid,
        machine: by_attempt.machine,
        snapshot: by_attempt.snapshot,
        slot: by_attempt.slot,
        attempt: by_attempt.attempt,
        trigger: by_attempt.trigger,
        seal: by_attempt.seal.clone(),
        sealed_sha256: by_attempt.sealed_sha256.clone(),
        sealed_bytes: by_attempt.sealed_bytes,
        ..by_once
    };
    assert_eq!(same, by_attempt);
}

#[tokio::test]
async fn one_attempt_at_a_time_and_repetitions_are_harmless() {
    let s = Setup::new(silent(&database(20))).await;
    let service = s.service();
    accepted(service.attempts.start(command(&s.shelf, 1)).await, 1);
    accepted(service.attempts.start(command(&s.shelf, 1)).await, 1);
    assert_eq!(refused(service.attempts.start(command(&s.shelf, 9)).await), RefusalCode::Busy);
    assert!(matches!(service.report().await.state, Some(State::Started(_))));
    assert!(!service.attempts.cancel(CancelBackup { version: 1, epoch: 5, attempt: id(9) }).await.cancelled);
    assert!(service.attempts.cancel(CancelBackup { version: 1, epoch: 5, attempt: id(1) }).await.cancelled);
    let report = service.report().await;
    assert_eq!(failure(&report), (FailureCode::Cancelled, "cancelled by the coordinator"));
    service.done().await;
    assert!(s.shelf.files().is_empty());

    accepted(service.attempts.start(command(&s.shelf, 1)).await, 1);
    assert_eq!(service.report().await, report, "an attempt that has ended says again how");
    assert!(service.nothing_waits());
    s.etcd.say(Script::healthy(&database(20), 1000));
    accepted(service.attempts.start(command(&s.shelf, 9)).await, 9);
    assert!(matches!(service.report().await.state, Some(State::Started(_))));
    assert!(matches!(service.report().await.state, Some(State::Finished(_))));
    service.done().await;
    accepted(service.attempts.start(command(&s.shelf, 10)).await, 10);
    service.report().await;
    assert_eq!(failure(&service.report().await).0, FailureCode::SlotDone, "another attempt for the slot");
}

#[tokio::test]
async fn an_older_epoch_is_refused_also_after_a_restart() {
    let s = Setup::new(silent(&database(20))).await;
    let older = |attempt| StartBackup { epoch: 4, ..command(&s.shelf, attempt) };
    {
        let service = s.service();
        accepted(service.attempts.start(command(&s.shelf, 1)).await, 1);
        assert_eq!(refused(service.attempts.start(older(1)).await), RefusalCode::StaleEpoch);
        assert!(!service.attempts.cancel(CancelBackup { version: 1, epoch: 4, attempt: id(1) }).await.cancelled);
        service.attempts.stop();
        service.attempts.idle().await;
    }
    let service = s.service();
    assert_eq!(refused(service.attempts.start(older(2)).await), RefusalCode::StaleEpoch);
    let foreign = StartBackup { epoch: 99, machine: id(77), ..command(&s.shelf, 2) };
    assert_eq!(refused(service.attempts.start(foreign).await), RefusalCode::WrongAddress);
    let broken = StartBackup { store: None, ..command(&s.shelf, 2) };
    assert_eq!(refused(service.attempts.start(broken).await), RefusalCode::Invalid, "and epoch 99 was not for us");
}

#[tokio::test]
async fn stopping_cancels_reports_and_refuses() {
    let s = Setup::new(silent(&database(20))).await;
    let service = s.service();
    accepted(service.attempts.start(command(&s.shelf, 1)).await, 1);
    service.report().await;
    service.attempts.stop();
    assert_eq!(refused(service.attempts.start(command(&s.shelf, 2)).await), RefusalCode::Stopping);
    service.attempts.idle().await;
    let report = service.report().await;
    assert_eq!(failure(&report), (FailureCode::Cancelled, "the agent was stopped during the attempt"));
    assert!(s.shelf.files().is_empty());
}

#[tokio::test]
async fn failures_carry_their_code() {
    let s = Setup::new(Script { quorum: false, ..Script::healthy(&database(20), 1000) }).await;
    let service = s.service();
    let gone = bus::Store { kind: Some(Kind::Local(bus::LocalStore { path: "/nonexistent/x".into() })) };
    for (attempt, change, expected) in [(1, None, FailureCode::Source), (2, Some(gone), FailureCode::Store)] {
        let mut command = command(&s.shelf, attempt);
        command.store = change.or(command.store);
        accepted(service.attempts.start(command).await, attempt);
        service.report().await;
        let report = service.report().await;
        assert_eq!(failure(&report).0, expected, "{report:?}");
        service.done().await;
    }
    let mut late = command(&s.shelf, 3);
    late.limits = Some(bus::Limits { deadline_ms: 200, ..bus::Limits::default() });
    s.etcd.say(silent(&database(20)));
    accepted(service.attempts.start(late).await, 3);
    service.report().await;
    assert_eq!(failure(&service.report().await).0, FailureCode::Deadline);
    service.done().await;
    let elsewhere = StartBackup { etcd_cluster_id: 7, ..command(&s.shelf, 4) };
    accepted(service.attempts.start(elsewhere).await, 4);
    service.report().await;
    let report = service.report().await;
    assert!(failure(&report).1.contains("belongs to cluster"), "{report:?}");
}

/// The state folder as a process leaves it that is killed at this very moment.
fn killed(state: &Path) -> TempDir {
    fn copy(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).expect("writable");
        for item in std::fs::read_dir(from).expect("readable") {
            let path = item.expect("an entry").path();
            let target = to.join(path.file_name().expect("has a name"));
            if path.is_dir() { copy(&path, &target) } else { std::fs::copy(&path, &target).map(drop).expect("copied") }
        }
    }
    let folder = tempfile::tempdir().expect("a folder");
    copy(state, folder.path());
    folder
}

#[tokio::test]
async fn a_killed_agent_reports_the_attempt_at_its_next_start_once() {
    let s = Setup::new(silent(&database(20))).await;
    let service = s.service();
    accepted(service.attempts.start(command(&s.shelf, 1)).await, 1);
    service.report().await;
    let left = killed(s.state.path());
    {
        let next = Service::open(left.path(), s.etcd.member());
        let report = next.report().await;
        assert_eq!(failure(&report), (FailureCode::Internal, "the agent was restarted during the attempt"));
        assert_eq!((report.attempt.as_str(), report.slot.as_str()), (&*id(1), &*id(2)));
        accepted(next.attempts.start(command(&s.shelf, 1)).await, 1);
        assert_eq!(next.report().await, report, "the attempt is over: it is not begun again");
    }
    assert!(Service::open(left.path(), s.etcd.member()).nothing_waits(), "once is enough");
    service.attempts.stop();
    service.attempts.idle().await;
}

#[tokio::test]
async fn killed_between_the_final_report_and_the_journal_it_stays_one_report() {
    let s = Setup::new(Script::healthy(&database(20), 1000)).await;
    let service = s.service();
    accepted(service.attempts.start(command(&s.shelf, 1)).await, 1);
    service.report().await;
    let finished = service.report().await;
    service.done().await;
    drop(service);
    // Both ways in which the last steps can be cut short: the journal is still there.
    let state = StateDir::open(s.state.path()).expect("free");
    state.begin(&Report { state: None, at_ms: 0, ..finished.clone() }).expect("writable");
    drop(state);
    let next = s.service();
    assert_eq!(next.report().await, finished, "not a failure");
    assert!(next.nothing_waits());
}
