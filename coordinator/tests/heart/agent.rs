//! An agent, as the coordinator meets it: beats, answers to commands, a backup that appears in the store, and a report until it is
//! taken. It goes by the world's time and has neither etcd nor disk.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use backstay_archive::catalog::{self, Settled};
use backstay_archive::manifest::{Manifest, Trigger};
use backstay_archive::store::ErrorKind;
use backstay_archive::{Key, Store, StoreError};
use backstay_protocol::bus::{
    self, Accepted, Beat, CancelBackup, CancelReply, Failed, FailureCode, Finished, ListedMember, Member,
    MemberIdentity, RefusalCode, Refused, Report, RestoreCommand, RestoreReply, StartBackup, StartReply, VerifyCommand,
    VerifyReply, report, restore_reply, start_reply, verify_reply,
};
use backstay_protocol::subject::{Command, Subject};
use backstay_protocol::{AttemptId, Clock, ClusterName, MachineId, VERSION};
use bytes::Bytes;
use prost::Message;
use tokio_util::sync::CancellationToken;

use super::door::lock;
use super::machine::{Machine, Obstacle, Proving};
use super::world::{ETCD, World};

/// Between two beats.
pub const BEAT: Duration = Duration::from_secs(5);

/// What an agent makes of a command to back up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    Works,
    Refuses(&'static str),
    /// It does not hear the command.
    Silent,
    /// It works, and its answer is lost.
    Unheard,
    /// It reports a failure.
    Fails(FailureCode),
    /// It vanishes in the middle of the upload.
    Dies,
    /// It vanishes when the backup is complete and has no manifest yet.
    DiesComplete,
    /// It works on it no longer, and never reports.
    Forgets,
    /// It works on it for ever.
    Hangs,
}

/// What it has under way.
#[derive(Debug, Clone)]
struct Running {
    attempt: String,
    cancel: CancellationToken,
}

#[derive(Debug, Default)]
struct Book {
    epoch: u64,
    next: VecDeque<Way>,
    always: Option<Way>,
    running: Option<Running>,
    ended: Vec<Report>,
    asked: Vec<StartBackup>,
    cancelled: Vec<(String, bool)>,
    gone: bool,
    obstacle: Option<Obstacle>,
    proving: Option<Proving>,
    takes: Option<Duration>,
    proofs: u32,
    machine: Machine,
}

/// One agent.
#[derive(Debug)]
pub struct Agent {
    pub cluster: ClusterName,
    pub machine: MachineId,
    /// From 1; also its member's id.
    pub number: u64,
    /// Members of its cluster.
    of: u64,
    world: Weak<World>,
    book: Mutex<Book>,
}

impl Agent {
    pub fn new(world: &Arc<World>, cluster: ClusterName, machine: MachineId, number: u64, of: u64) -> Arc<Self> {
        Arc::new(Self { cluster, machine, number, of, world: Arc::downgrade(world), book: Mutex::default() })
    }

    /// It hears commands from here on, and beats.
    pub fn begin(self: &Arc<Self>) {
        lock(&self.book).gone = false;
        let world = self.world();
        for command in Command::ALL {
            let (agent, command) = (self.clone(), *command);
            world.bus.listen(&self.subject(command), move |body| {
                let agent = agent.clone();
                async move { agent.hear(command, &body) }
            });
        }
        let (agent, first) = (self.clone(), Duration::from_millis(world.random(BEAT.as_millis() as u64)));
        tokio::spawn(async move {
            tokio::time::sleep(first).await;
            while !agent.is_gone() {
                agent.beat().await;
                tokio::time::sleep(BEAT).await;
            }
        });
    }

    /// It is no more: nothing beats, nobody listens, what it had under way stays as it is.
    pub fn vanish(&self) {
        lock(&self.book).gone = true;
        let world = self.world();
        Command::ALL.iter().for_each(|command| world.bus.leave(&self.subject(*command)));
    }

    /// What it makes of the next command, before what it always does.
    pub fn next(&self, way: Way) {
        lock(&self.book).next.push_back(way);
    }

    pub fn always(&self, way: Way) {
        lock(&self.book).always = Some(way);
    }

    /// So long each half of its work takes.
    pub fn takes(&self, half: Duration) {
        lock(&self.book).takes = Some(half);
    }

    pub fn meets(&self, obstacle: Option<Obstacle>) {
        lock(&self.book).obstacle = obstacle;
    }

    pub fn proves(&self, proving: Proving) {
        lock(&self.book).proving = Some(proving);
    }

    /// It has seen this epoch.
    pub fn saw(&self, epoch: u64) {
        lock(&self.book).epoch = epoch;
    }

    pub fn asked(&self) -> Vec<StartBackup> {
        lock(&self.book).asked.clone()
    }

    /// What it was told to cancel, and whether that was under way here.
    pub fn cancelled(&self) -> Vec<(String, bool)> {
        lock(&self.book).cancelled.clone()
    }

    pub fn proofs(&self) -> u32 {
        lock(&self.book).proofs
    }

    pub fn is_at_work(&self) -> bool {
        lock(&self.book).running.is_some()
    }

    /// The step of its last restore, and whether it was ever told both ends.
    pub fn restored(&self) -> (Option<bus::RestoreStep>, bool) {
        let book = lock(&self.book);
        (book.machine.restore.as_ref().map(bus::RestoreState::step), book.machine.torn)
    }

    fn is_gone(&self) -> bool {
        lock(&self.book).gone
    }

    fn world(&self) -> Arc<World> {
        self.world.upgrade().expect("nobody is left where the world has ended")
    }

    fn subject(&self, command: Command) -> Subject {
        Subject::Agent { cluster: self.cluster.clone(), machine: self.machine, command }
    }

    async fn beat(&self) {
        let beat = self.as_it_is();
        let subject = Subject::Beat { cluster: self.cluster.clone(), machine: self.machine }.to_string();
        self.world().beat(&subject, &beat.encode_to_vec()).await;
    }

    fn as_it_is(&self) -> Beat {
        let world = self.world();
        let book = lock(&self.book);
        let cluster_id = book.machine.cluster_id().unwrap_or(ETCD);
        let member = Member {
            cluster_id,
            member_id: self.number,
            leader_id: 1,
            etcd_version: "3.5.16".into(),
            revision: 100,
            raft_index: 100,
            raft_applied_index: 100,
            ..Member::default()
        };
        let seat = |n: u64| ListedMember {
            id: n,
            name: format!("m{n}"),
            peer_urls: vec![format!("https://m{n}:2380")],
            ..ListedMember::default()
        };
        let seat = MemberIdentity {
            control: "systemd".into(),
            folder: "/var/lib/etcd".into(),
            free_bytes: 1 << 40,
            member_id: self.number,
            cluster_id,
            members: (1..=self.of).map(seat).collect(),
            ..MemberIdentity::default()
        };
        Beat {
            version: VERSION,
            cluster: self.cluster.to_string(),
            machine: self.machine.to_string(),
            agent_version: "0.1.0".into(),
            recipient: world.recipient.clone(),
            attempt: book.running.as_ref().map(|running| running.attempt.clone()).unwrap_or_default(),
            member: Some(member),
            beat_interval_ms: BEAT.as_millis() as u32,
            started_at_ms: self.number as i64,
            seat: Some(seat),
            restore: book.machine.restore.clone(),
            sent_at_ms: world.clock.now().as_millis(),
            ..Beat::default()
        }
    }

    /// Its answer; `None`: never.
    fn hear(self: &Arc<Self>, command: Command, body: &[u8]) -> Option<Bytes> {
        const OURS: &str = "the coordinator's own words";
        let answer = match command {
            Command::Start => self.on_start(bus::decode(body).expect(OURS))?.encode_to_vec(),
            Command::Cancel => self.on_cancel(&bus::decode(body).expect(OURS)).encode_to_vec(),
            Command::Restore => self.on_restore(&bus::decode(body).expect(OURS)).encode_to_vec(),
            Command::Verify => self.on_verify(&bus::decode(body).expect(OURS))?.encode_to_vec(),
        };
        Some(answer.into())
    }

    fn on_start(self: &Arc<Self>, command: StartBackup) -> Option<StartReply> {
        let way = {
            let mut book = lock(&self.book);
            book.asked.push(command.clone());
            book.next.pop_front().or_else(|| book.always.clone()).unwrap_or(Way::Works)
        };
        let attempt = command.attempt.clone();
        let accepted = match way {
            Way::Silent => return None,
            Way::Refuses(text) => Err(refused(RefusalCode::Invalid, text)),
            _ => self.accept(command, way.clone()),
        };
        if way == Way::Unheard {
            return None;
        }
        let answer = match accepted {
            Ok(()) => start_reply::Answer::Accepted(Accepted { attempt }),
            Err(refused) => start_reply::Answer::Refused(refused),
        };
        Some(StartReply { version: VERSION, answer: Some(answer) })
    }

    fn accept(self: &Arc<Self>, command: StartBackup, way: Way) -> Result<(), Refused> {
        let mut book = lock(&self.book);
        see(&mut book, command.epoch)?;
        if let Some(report) = book.ended.iter().find(|report| report.attempt == command.attempt) {
            self.world().report(self.cluster.clone(), self.machine, report.clone());
            return Ok(());
        }
        match &book.running {
            Some(running) if running.attempt == command.attempt => return Ok(()),
            Some(_) => return Err(refused(RefusalCode::Busy, "another attempt is under way")),
            None => {}
        }
        let cancel = CancellationToken::new();
        book.running = Some(Running { attempt: command.attempt.clone(), cancel: cancel.clone() });
        tokio::spawn(self.clone().run(command, way, cancel));
        Ok(())
    }

    async fn run(self: Arc<Self>, command: StartBackup, way: Way, cancel: CancellationToken) {
        let taken = match cancel.run_until_cancelled(self.take(&command, way)).await {
            Some(Ok(None)) => return,
            Some(Ok(Some(state))) => state,
            Some(Err(error)) => failed(FailureCode::Store, &error.to_string()),
            None => failed(FailureCode::Cancelled, "cancelled by the coordinator"),
        };
        let world = self.world();
        let report = Report {
            version: VERSION,
            attempt: command.attempt,
            slot: command.slot,
            cluster: command.cluster,
            cluster_uuid: command.cluster_uuid,
            machine: command.machine,
            at_ms: world.clock.now().as_millis(),
            snapshot: command.snapshot,
            state: Some(taken),
        };
        {
            let mut book = lock(&self.book);
            book.running = None;
            book.ended.push(report.clone());
        }
        world.report(self.cluster.clone(), self.machine, report);
    }

    /// What becomes of an attempt; `None`: nobody will ever say.
    async fn take(&self, command: &StartBackup, way: Way) -> Result<Option<report::State>, StoreError> {
        let world = self.world();
        let a_while = || {
            let takes = lock(&self.book).takes;
            tokio::time::sleep(takes.unwrap_or_else(|| Duration::from_millis(500 + world.random(3_000))))
        };
        match way {
            Way::Fails(code) => {
                a_while().await;
                return Ok(Some(failed(code, "a test's failure")));
            }
            Way::Hangs => std::future::pending().await,
            Way::Forgets => {
                lock(&self.book).running = None;
                return Ok(None);
            }
            _ => {}
        }
        let body = Bytes::from(format!("sealed by {}", command.attempt));
        let manifest = self.manifest(command, body.len() as u64);
        let (cluster, name, attempt) = (manifest.cluster_uuid, manifest.snapshot, manifest.attempt);
        a_while().await;
        let upload = world.store.begin(&Key::snapshot(cluster, name), attempt).await?;
        upload.part(1, body).await?;
        a_while().await;
        if way == Way::Dies {
            self.vanish();
            return Ok(None);
        }
        world.store.put_new(&Key::intent(cluster, name, attempt), manifest.to_json().into()).await?;
        match upload.complete(1).await {
            Err(error) if error.is(ErrorKind::AlreadyExists) => return self.taken(&manifest).await.map(Some),
            completed => completed?,
        }
        if way == Way::DiesComplete {
            self.vanish();
            return Ok(None);
        }
        world.store.put_new(&Key::manifest(cluster, name), manifest.to_json().into()).await?;
        world.store.delete(&Key::intent(cluster, name, attempt)).await?;
        let finished = Finished { revision: 100, snapshot_bytes: manifest.snapshot_bytes, ..Finished::default() };
        Ok(Some(report::State::Finished(finished)))
    }

    /// Another backup has the name: this slot's, or somebody else's.
    async fn taken(&self, ours: &Manifest) -> Result<report::State, StoreError> {
        let store = &self.world().store;
        store.delete(&Key::intent(ours.cluster_uuid, ours.snapshot, ours.attempt)).await?;
        Ok(match catalog::settle(store, ours.cluster_uuid, ours.snapshot).await? {
            Settled::Done(found) if found.slot == ours.slot => failed(FailureCode::SlotDone, "it already exists"),
            _ => failed(FailureCode::NameTaken, "the name is taken"),
        })
    }

    /// What version 1 of a manifest looks like, with this attempt's own words.
    fn manifest(&self, command: &StartBackup, sealed_bytes: u64) -> Manifest {
        const GOLDEN: &[u8] = include_bytes!("../../../archive/tests/golden/manifest.json");
        let mut manifest = Manifest::from_json(GOLDEN).expect("a golden manifest");
        manifest.cluster = self.cluster.clone();
        manifest.cluster_uuid = command.cluster_uuid.parse().expect("a UUID");
        manifest.machine = Some(self.machine);
        manifest.snapshot = command.snapshot.parse().expect("a name");
        manifest.slot = command.slot.parse().expect("an id");
        manifest.attempt = command.attempt.parse::<AttemptId>().expect("an id");
        manifest.trigger = match command.trigger() {
            bus::Trigger::Manual => Trigger::Manual,
            _ => Trigger::Interval,
        };
        manifest.created_at = self.world().clock.now();
        manifest.origin.etcd_cluster_id = format!("{ETCD:016x}");
        manifest.seal.recipients.clone_from(&command.recipients);
        if command.recipients.is_empty() {
            manifest.seal.encryption = "none".into();
        }
        manifest.sealed_bytes = sealed_bytes;
        manifest
    }

    fn on_cancel(&self, command: &CancelBackup) -> CancelReply {
        let mut book = lock(&self.book);
        let allowed = see(&mut book, command.epoch).is_ok();
        let running = book.running.clone().filter(|running| allowed && running.attempt == command.attempt);
        if let Some(running) = &running {
            running.cancel.cancel();
        }
        book.cancelled.push((command.attempt.clone(), running.is_some()));
        CancelReply { version: VERSION, cancelled: running.is_some() }
    }

    fn on_restore(&self, command: &RestoreCommand) -> RestoreReply {
        let mut book = lock(&self.book);
        let answer = match see(&mut book, command.epoch) {
            Ok(()) => {
                let obstacle = book.obstacle;
                restore_reply::Answer::State(book.machine.restore(command, obstacle, self.number))
            }
            Err(refused) => restore_reply::Answer::Refused(refused),
        };
        RestoreReply { version: VERSION, answer: Some(answer) }
    }

    fn on_verify(&self, command: &VerifyCommand) -> Option<VerifyReply> {
        let mut book = lock(&self.book);
        book.proofs += 1;
        let proving = book.proving.clone().unwrap_or(Proving::Proves(3));
        let answer = match (see(&mut book, command.epoch), &proving) {
            (Err(refused), _) => verify_reply::Answer::Refused(refused),
            (Ok(()), Proving::Refuses(text)) => verify_reply::Answer::Refused(refused(RefusalCode::Invalid, text)),
            (Ok(()), _) => verify_reply::Answer::State(book.machine.verify(command, &proving)?),
        };
        Some(VerifyReply { version: VERSION, answer: Some(answer) })
    }
}

/// Who was replaced is refused.
fn see(book: &mut Book, epoch: u64) -> Result<(), Refused> {
    if epoch < book.epoch {
        let refused = refused(RefusalCode::StaleEpoch, "an older epoch");
        return Err(Refused { newest_epoch: book.epoch, ..refused });
    }
    book.epoch = epoch;
    Ok(())
}

fn refused(code: RefusalCode, text: &str) -> Refused {
    Refused { code: code.into(), text: text.to_owned(), ..Refused::default() }
}

fn failed(code: FailureCode, text: &str) -> report::State {
    report::State::Failed(Failed { code: code.into(), text: text.to_owned() })
}
