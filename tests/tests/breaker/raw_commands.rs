//! Commands sent by hand over NATS, as a coordinator would send them, and the reports that come back.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use async_nats::{Client, jetstream};
use backstay_archive::seal;
use backstay_daemon::SystemClock;
use backstay_protocol::bus::{
    self, Beat, CancelBackup, CancelReply, Refused, Report, StartBackup, StartReply, report::State,
    start_reply::Answer, store::Kind,
};
use backstay_protocol::subject::{self, Command, Subject};
use backstay_protocol::{Clock, SlotId, SnapshotName, VERSION};
use backstay_tests::eventually;
use futures::StreamExt;
use prost::Message;
use uuid::Uuid;

use super::LONG;
use super::rig::Rig;

const ANSWER: Duration = Duration::from_secs(30);

/// An epoch above that of every coordinator, which is the time in milliseconds.
pub const NEWEST: u64 = u64::MAX / 2;

/// The stream of reports.
const REPORTS: &str = "BACKSTAY_REPORTS";

/// Sends raw commands, and hears the reports.
pub struct RawCommands {
    client: Client,
    /// The number of the next report in its stream: what came while nobody was connected is not overlooked.
    next: u64,
}

impl RawCommands {
    pub async fn new(rig: &Rig) -> Result<Self> {
        let client = rig.nats.client().await?;
        let mut stream = jetstream::new(client.clone()).get_stream(REPORTS).await?;
        let next = stream.info().await?.state.last_sequence + 1;
        Ok(Self { client, next })
    }

    /// A command for an agent that is right in everything: a new attempt for a new slot, named after now.
    pub async fn command(&self, rig: &Rig, cluster: &str, agent: usize) -> Result<StartBackup> {
        let machine = rig.cluster(cluster).agents[agent].machine.to_string();
        let id = || Uuid::new_v4().to_string();
        let snapshot = SnapshotName::from_unix_seconds(SystemClock.now().seconds)?;
        Ok(StartBackup {
            version: VERSION,
            epoch: NEWEST,
            attempt: id(),
            slot: SlotId(Uuid::new_v4()).to_string(),
            cluster: cluster.to_owned(),
            cluster_uuid: rig.uuid(cluster).await?,
            machine: machine.clone(),
            snapshot: snapshot.to_string(),
            trigger: bus::Trigger::Manual.into(),
            store: Some(self.store(rig, &machine).await?),
            recipients: vec![rig.recovery()?.to_public().to_string()],
            limits: None,
            etcd_cluster_id: 0,
        })
    }

    /// The stand's S3, its credentials sealed to that machine's agent.
    async fn store(&self, rig: &Rig, machine: &str) -> Result<bus::Store> {
        let recipient = seal::parse_recipient(&self.beat(machine).await?.recipient)?;
        let plain = bus::Credentials {
            access_key_id: rig.s3.access_key_id().into(),
            secret_access_key: rig.s3.secret_access_key().into(),
            session_token: String::new(),
        };
        let s3 = bus::S3Store {
            bucket: rig.s3.bucket().into(),
            region: rig.s3.region().into(),
            endpoint: rig.s3.endpoint().into(),
            sealed_credentials: seal::seal_bytes(&[recipient], &plain.encode_to_vec())?.into(),
            ..bus::S3Store::default()
        };
        Ok(bus::Store { kind: Some(Kind::S3(s3)) })
    }

    /// The next beat of a machine's agent.
    pub async fn beat(&self, machine: &str) -> Result<Beat> {
        let mut beats = self.client.subscribe(subject::all_beats()).await?;
        let find = async {
            while let Some(message) = beats.next().await {
                let beat: Beat = bus::decode(&message.payload)?;
                if beat.machine == machine {
                    return Ok(beat);
                }
            }
            bail!("the subscription ended")
        };
        tokio::time::timeout(LONG, find).await.with_context(|| format!("no beat of {machine}"))?
    }

    /// Sends any bytes to an agent's command and returns the bytes of its answer.
    pub async fn send(&self, start: &StartBackup, command: Command, body: Vec<u8>) -> Result<Vec<u8>> {
        let subject = Subject::Agent { cluster: start.cluster.parse()?, machine: start.machine.parse()?, command };
        let answer = tokio::time::timeout(ANSWER, self.client.request(subject.to_string(), body.into())).await;
        Ok(answer.with_context(|| format!("no answer on {subject}"))??.payload.to_vec())
    }

    /// Starts an attempt at the agent of another command's address.
    pub async fn start_at(&self, address: &StartBackup, command: &StartBackup) -> Result<Result<(), Refused>> {
        let answer = self.send(address, Command::Start, command.encode_to_vec()).await?;
        accepted(&answer)
    }

    pub async fn start(&self, command: &StartBackup) -> Result<Result<(), Refused>> {
        self.start_at(command, command).await
    }

    /// The same as soon as the agent's place is free: the report that an attempt has ended is out a moment before.
    pub async fn begin(&self, command: &StartBackup) -> Result<()> {
        eventually(LONG, || async {
            let answer = self.start(command).await?;
            answer.map_err(|refused| anyhow::anyhow!("refused: {refused:?}"))
        })
        .await
    }

    /// Cancels the attempt of a command; whether it was under way.
    pub async fn cancel(&self, command: &StartBackup, epoch: u64) -> Result<bool> {
        let body = CancelBackup { version: VERSION, epoch, attempt: command.attempt.clone() }.encode_to_vec();
        let answer = self.send(command, Command::Cancel, body).await?;
        Ok(bus::decode::<CancelReply>(&answer)?.cancelled)
    }

    /// The next report that ends an attempt, of the attempts that `wanted` says.
    pub async fn final_report(&mut self, wanted: impl Fn(&Report) -> bool) -> Result<Report> {
        loop {
            let report = eventually(LONG, || self.report(self.next)).await.context("no final report came")?;
            self.next += 1;
            if wanted(&report) && !matches!(report.state, Some(State::Started(_)) | None) {
                return Ok(report);
            }
        }
    }

    /// The next report that says that an attempt has begun.
    pub async fn started(&mut self) -> Result<Report> {
        loop {
            let report = eventually(LONG, || self.report(self.next)).await.context("no report of a start came")?;
            self.next += 1;
            if matches!(report.state, Some(State::Started(_))) {
                return Ok(report);
            }
        }
    }

    /// Starts an attempt that has ended; the report that its agent sends anew. It is heard on its subject: the stream
    /// drops what it has already.
    pub async fn report_again(&self, command: &StartBackup) -> Result<Report> {
        let mut reports = self.client.subscribe(subject::all_reports()).await?;
        self.client.flush().await?;
        ensure!(self.start(command).await?.is_ok(), "refused");
        let find = async {
            while let Some(message) = reports.next().await {
                let report: Report = bus::decode(&message.payload)?;
                if report.attempt == command.attempt {
                    return Ok(report);
                }
            }
            bail!("the subscription ended")
        };
        tokio::time::timeout(LONG, find).await.context("no report came again")?
    }

    async fn report(&self, number: u64) -> Result<Report> {
        let stream = jetstream::new(self.client.clone()).get_stream(REPORTS).await?;
        let message = stream.get_raw_message(number).await?;
        ensure!(!message.payload.is_empty(), "report {number} is empty");
        Ok(bus::decode(&message.payload)?)
    }

    /// The reports that end these attempts, in whichever order they come; good ones first.
    pub async fn final_reports(&mut self, commands: &[&StartBackup]) -> Result<Vec<Report>> {
        let mut left: Vec<&str> = commands.iter().map(|c| c.attempt.as_str()).collect();
        let mut reports = Vec::new();
        while !left.is_empty() {
            let report = self.final_report(|r| left.contains(&r.attempt.as_str())).await?;
            left.retain(|attempt| *attempt != report.attempt);
            reports.push(report);
        }
        reports.sort_by_key(|report| !is_finished(report));
        Ok(reports)
    }
}

/// What the bytes of an answer to a start say.
pub fn accepted(answer: &[u8]) -> Result<Result<(), Refused>> {
    match bus::decode::<StartReply>(answer)?.answer {
        Some(Answer::Accepted(_)) => Ok(Ok(())),
        Some(Answer::Refused(refused)) => Ok(Err(refused)),
        None => bail!("the answer says neither yes nor no"),
    }
}

/// The failure of a report; an error where it is none.
pub fn failure(report: &Report) -> Result<&bus::Failed> {
    match &report.state {
        Some(State::Failed(failed)) => Ok(failed),
        other => bail!("{other:?} is no failure"),
    }
}

pub fn is_finished(report: &Report) -> bool {
    matches!(report.state, Some(State::Finished(_)))
}
