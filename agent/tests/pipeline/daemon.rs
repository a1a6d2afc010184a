//! The whole agent in this process, on a real nats-server that comes and goes.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_nats::{Client, Subscriber, jetstream};
use backstay_agent::proof::settings::InspectionSettings;
use backstay_agent::{Agent, Settings};
use backstay_daemon::http::HttpSettings;
use backstay_daemon::nats::{NatsSettings, Patience, connect};
use backstay_protocol::bus::{
    Beat, CancelBackup, CancelReply, FailureCode, RefusalCode, Report, StartBackup, StartReply, decode, report::State,
};
use backstay_protocol::subject;
use backstay_tests::{Nats, NatsOptions, eventually};
use futures::StreamExt;
use prost::Message;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::attempts::{accepted, address, command, failure, id, only_backup, refused, silent};
use crate::fake_etcd::{CLUSTER, FakeEtcd, Script};
use crate::support::{LONG, Shelf, StoppedClock, database};

const STREAM: &str = "REPORTS";

/// A server that is not there yet, and has its port.
fn absent() -> Nats {
    Nats::prepare(NatsOptions::default()).expect("a port is free")
}

/// A server that answers.
async fn serving() -> Nats {
    Nats::start().await.expect("nats-server is installed")
}

fn settings(nats: &Nats) -> NatsSettings {
    NatsSettings { url: nats.url(), ..NatsSettings::default() }
}

async fn client(nats: &Nats) -> Client {
    let client = connect(&settings(nats), "test", Patience::Daemon).await.expect("the settings fit");
    client.flush().await.expect("it comes up");
    client
}

struct Running {
    tasks: JoinSet<()>,
    stop: CancellationToken,
    state: TempDir,
}

impl Running {
    fn start(nats: &Nats, etcd: &FakeEtcd) -> Self {
        let state = tempfile::tempdir().expect("a folder");
        let settings = Settings {
            cluster: Some(address().cluster),
            machine: Some(address().machine),
            state_dir: state.path().join("state"),
            beat_interval: Duration::from_millis(200),
            nats: settings(nats),
            etcd: etcd.settings(),
            inspection: InspectionSettings::off(),
            http: HttpSettings { listen: None },
            ..Settings::default()
        };
        let (mut tasks, stop) = (JoinSet::new(), CancellationToken::new());
        let agent = Agent::build(settings, Arc::new(StoppedClock)).expect("it starts");
        let token = stop.clone();
        tasks.spawn(async move { agent.run(token).await.expect("it works") });
        Self { tasks, stop, state }
    }

    /// As SIGTERM does; waits for the end.
    async fn stop(mut self) -> TempDir {
        self.stop.cancel();
        self.tasks.join_next().await.expect("one").expect("no panic");
        self.state
    }
}

/// What a coordinator has.
struct Coordinator {
    client: Client,
    beats: Subscriber,
    reports: jetstream::consumer::pull::Stream,
}

impl Coordinator {
    async fn start(nats: &Nats) -> Self {
        let client = client(nats).await;
        let beats = client.subscribe(subject::all_beats()).await.expect("subscribed");
        let jetstream = jetstream::new(client.clone());
        let config = jetstream::stream::Config {
            name: STREAM.into(),
            subjects: vec![subject::all_reports()],
            ..jetstream::stream::Config::default()
        };
        let stream = jetstream.get_or_create_stream(config).await.expect("a stream");
        let consumer = stream.create_consumer(jetstream::consumer::pull::Config::default()).await.expect("a consumer");
        let reports = consumer.messages().await.expect("messages");
        Self { client, beats, reports }
    }

    async fn beat(&mut self) -> Beat {
        let message = timeout(LONG, self.beats.next()).await.expect("in time").expect("connected");
        assert_eq!(message.subject.as_str(), format!("backstay.v1.beat.prod.{}", id(4)));
        decode(&message.payload).expect("a beat")
    }

    async fn report(&mut self) -> Report {
        let message = timeout(LONG, self.reports.next()).await.expect("in time").expect("connected").expect("readable");
        message.ack().await.expect("acknowledged");
        decode(&message.payload).expect("a report")
    }

    async fn ask(&self, verb: &str, payload: Vec<u8>) -> bytes::Bytes {
        let subject = format!("backstay.v1.agent.prod.{}.{verb}", id(4));
        self.client.request(subject, payload.into()).await.expect("an answer").payload
    }

    async fn start_backup(&self, command: StartBackup) -> StartReply {
        StartReply::decode(self.ask("start", command.encode_to_vec()).await).expect("a StartReply")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_answers_beats_and_reports() {
    let nats = serving().await;
    let (shelf, etcd) = (Shelf::new(), FakeEtcd::start(Script::healthy(&database(20), 1000)).await);
    let mut coordinator = Coordinator::start(&nats).await;
    let agent = Running::start(&nats, &etcd);
    let mut beat = coordinator.beat().await;
    while beat.member.is_none() {
        beat = coordinator.beat().await;
    }
    assert_eq!((beat.cluster.as_str(), &beat.machine, beat.attempt.as_str()), ("prod", &id(4), ""));
    assert!(beat.recipient.starts_with("age1"));
    assert_eq!((beat.member.map(|m| m.cluster_id), beat.beat_interval_ms), (Some(CLUSTER), 200));

    accepted(coordinator.start_backup(command(&shelf, 1)).await, 1);
    assert!(matches!(coordinator.report().await.state, Some(State::Started(_))));
    assert!(matches!(coordinator.report().await.state, Some(State::Finished(_))));
    only_backup(&shelf).await;

    let later = StartBackup { version: 9, ..command(&shelf, 2) };
    assert_eq!(refused(coordinator.start_backup(later).await), RefusalCode::UnknownVersion);
    for (verb, payload) in [("start", &b"\xFF\xFF"[..]), ("start", b"")] {
        let reply = StartReply::decode(coordinator.ask(verb, payload.to_vec()).await).expect("a StartReply");
        assert!(matches!(refused(reply), RefusalCode::Invalid | RefusalCode::UnknownVersion));
    }
    let reply = StartReply::decode(coordinator.ask("dance", Vec::new()).await).expect("a StartReply");
    assert_eq!(refused(reply), RefusalCode::Invalid);
    let reply = CancelReply::decode(coordinator.ask("cancel", b"\xFF".to_vec()).await).expect("a CancelReply");
    assert_eq!((reply.version, reply.cancelled), (1, false));
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_may_be_absent_at_the_start_and_go_during_an_attempt() {
    let mut nats = absent();
    let (shelf, etcd) = (Shelf::new(), FakeEtcd::start(silent(&database(20))).await);
    let agent = Running::start(&nats, &etcd);
    nats.restart().await.expect("it starts");
    let mut coordinator = Coordinator::start(&nats).await;
    coordinator.beat().await;
    let mut command = command(&shelf, 1);
    command.limits = Some(backstay_protocol::bus::Limits { deadline_ms: 1500, ..Default::default() });
    accepted(coordinator.start_backup(command).await, 1);
    assert!(matches!(coordinator.report().await.state, Some(State::Started(_))));
    drop(coordinator);
    nats.stop();
    // The attempt ends while nobody listens: its journal goes when the report is on disk.
    let journal = agent.state.path().join("state/attempt");
    let gone = || std::future::ready((!journal.exists()).then_some(()).context("the attempt has not ended"));
    eventually(LONG, gone).await.expect("its deadline ends it");
    nats.restart().await.expect("it starts");
    let mut coordinator = Coordinator::start(&nats).await;
    let mut report = coordinator.report().await;
    while matches!(report.state, Some(State::Started(_))) {
        report = coordinator.report().await; // the stream shows the first again to a new consumer
    }
    assert_eq!((failure(&report).0, report.attempt.as_str()), (FailureCode::Deadline, &*id(1)));
    coordinator.beat().await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_in_the_middle_aborts_and_reports() {
    let nats = serving().await;
    let (shelf, etcd) = (Shelf::new(), FakeEtcd::start(silent(&database(20))).await);
    let mut coordinator = Coordinator::start(&nats).await;
    let agent = Running::start(&nats, &etcd);
    coordinator.beat().await;
    accepted(coordinator.start_backup(command(&shelf, 1)).await, 1);
    coordinator.report().await;
    while coordinator.beat().await.attempt != id(1) {}
    let state = agent.stop().await;
    let report = coordinator.report().await;
    assert_eq!(failure(&report), (FailureCode::Cancelled, "the agent was stopped during the attempt"));
    assert!(shelf.files().is_empty());
    let outbox = std::fs::read_dir(state.path().join("state/outbox")).expect("there");
    assert_eq!(outbox.count(), 0, "the report was acknowledged before the end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_attempt_frees_the_agent() {
    let nats = serving().await;
    let (shelf, etcd) = (Shelf::new(), FakeEtcd::start(silent(&database(20))).await);
    let mut coordinator = Coordinator::start(&nats).await;
    let agent = Running::start(&nats, &etcd);
    coordinator.beat().await;
    accepted(coordinator.start_backup(command(&shelf, 1)).await, 1);
    let cancel = CancelBackup { version: 1, epoch: 6, attempt: id(1) };
    let reply = CancelReply::decode(coordinator.ask("cancel", cancel.encode_to_vec()).await).expect("a CancelReply");
    assert!(reply.cancelled);
    assert!(matches!(coordinator.report().await.state, Some(State::Started(_))));
    assert_eq!(failure(&coordinator.report().await).0, FailureCode::Cancelled);
    assert_eq!(refused(coordinator.start_backup(command(&shelf, 2)).await), RefusalCode::StaleEpoch);
    agent.stop().await;
}
