//! kill -9 of the coordinator, of the agent, and of both, at chosen moments between the request and the report:
//! always one backup or one error, never both, never two.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use backstay_tests::s3::{Gate, Matching};
use backstay_tests::{Op, eventually};
use rand::Rng;

use super::LONG;
use super::raw_commands::RawCommands;
use super::rig::{Rig, Round, builder};

/// A moment of a backup: the request to S3 that is about to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// The coordinator looks what stands in the way.
    Looking,
    Beginning,
    Uploading,
    Intending,
    Completing,
    /// The object is there, its manifest is not.
    Describing,
    /// The backup is there; the agent tidies up and has not reported.
    TidyingUp,
}

impl Moment {
    const ALL: [Self; 7] = [
        Self::Looking,
        Self::Beginning,
        Self::Uploading,
        Self::Intending,
        Self::Completing,
        Self::Describing,
        Self::TidyingUp,
    ];

    fn request(self) -> Matching {
        match self {
            Self::Looking => Op::ListMultipartUploads.nth(1),
            Self::Beginning => Op::CreateMultipartUpload.nth(1),
            Self::Uploading => Op::UploadPart.nth(1),
            Self::Intending => Op::PutObject.nth(1).key("/intents/"),
            Self::Completing => Op::CompleteMultipartUpload.nth(1),
            Self::Describing => Op::PutObject.nth(1).key(".manifest.json"),
            Self::TidyingUp => Op::DeleteObject.nth(1).key("/intents/"),
        }
    }

    /// Whether the object is complete: from here on there must be a backup.
    fn is_complete(self) -> bool {
        matches!(self, Self::Describing | Self::TidyingUp)
    }
}

impl Rig {
    /// Asks for a backup and waits until it stands at that moment.
    async fn until(&mut self, moment: Moment) -> Result<(Round, Gate)> {
        let gate = self.s3.hold(moment.request());
        let round = self.begin("a").await?;
        gate.reached(LONG).await.with_context(|| format!("{moment:?}"))?;
        Ok((round, gate))
    }

    fn kill_coordinator(&mut self) {
        self.coordinators[0].daemon.kill9();
    }

    async fn start_coordinator(&mut self) -> Result<()> {
        self.coordinators[0].daemon.start_and_wait(LONG).await
    }

    /// The round ended in a backup or in an error, and the bucket agrees.
    async fn one_or_none(&self, round: &Round, before: usize, moment: Moment) -> Result<usize> {
        let status = self.end(round).await.with_context(|| format!("{moment:?}"))?;
        ensure!(status.is_ok() || status.is_error(), "{moment:?}: {status:?}");
        let after = before + usize::from(status.is_ok());
        self.holds("a", after).await.with_context(|| format!("{moment:?}: {status:?}"))?;
        Ok(after)
    }
}

#[tokio::test]
async fn a_killed_coordinator_goes_on_where_it_was() -> Result<()> {
    let mut rig = Rig::start(builder().cluster("a", 1)).await?;
    for (number, moment) in Moment::ALL.into_iter().enumerate() {
        let (round, gate) = rig.until(moment).await?;
        rig.kill_coordinator();
        rig.s3.clear_faults();
        // The agent works on, now before and now after the coordinator is back.
        let early = number % 2 == 0;
        if early && moment != Moment::Looking {
            gate.open();
        }
        rig.start_coordinator().await?;
        if !early {
            eventually(LONG, || rig.status("a")).await?;
            gate.open();
        }
        let status = rig.end(&round).await.with_context(|| format!("{moment:?}"))?;
        ensure!(status.is_ok(), "{moment:?}: {status:?}");
        rig.holds("a", number + 1).await.with_context(|| format!("{moment:?}"))?;
        // The same time once more is nothing new.
        rig.ask_again(&round).await?;
    }
    rig.must_back_up("a").await?;
    rig.proven("a", Moment::ALL.len() + 1).await?;
    Ok(())
}

#[tokio::test]
async fn a_killed_agent_leaves_a_backup_or_an_error() -> Result<()> {
    let mut rig = Rig::start(builder().cluster("a", 1)).await?;
    let mut raw = RawCommands::new(&rig).await?;
    let mut backups = 0;
    for moment in Moment::ALL.into_iter().filter(|m| *m != Moment::Looking) {
        let (round, _never_opened) = rig.until(moment).await?;
        let agent = &mut rig.agent("a", 0).daemon;
        agent.kill9();
        agent.start_and_wait(LONG).await?;
        rig.s3.clear_faults();
        // Whatever became of the attempt, its journal makes a report.
        raw.final_report(|_| true).await.with_context(|| format!("{moment:?}"))?;
        let after = rig.one_or_none(&round, backups, moment).await?;
        ensure!(!moment.is_complete() || after == backups + 1, "{moment:?}: a complete object was not made a backup");
        backups = after;
    }
    rig.must_back_up("a").await?;
    rig.proven("a", backups + 1).await?;
    Ok(())
}

#[tokio::test]
async fn both_killed_at_once_leave_a_backup_or_an_error() -> Result<()> {
    let mut rig = Rig::start(builder().cluster("a", 1)).await?;
    let mut backups = 0;
    for (number, moment) in Moment::ALL.into_iter().enumerate() {
        let (round, _never_opened) = rig.until(moment).await?;
        rig.kill_coordinator();
        rig.agent("a", 0).daemon.kill9();
        rig.s3.clear_faults();
        if number % 2 == 0 {
            rig.start_coordinator().await?;
            rig.agent("a", 0).daemon.start_and_wait(LONG).await?;
        } else {
            rig.agent("a", 0).daemon.start_and_wait(LONG).await?;
            rig.start_coordinator().await?;
        }
        let after = rig.one_or_none(&round, backups, moment).await?;
        ensure!(!moment.is_complete() || after == backups + 1, "{moment:?}: a complete object was not made a backup");
        // Where the agent had not begun, it is simply asked again.
        ensure!(moment != Moment::Looking || after == backups + 1, "the request was lost");
        backups = after;
    }
    rig.must_back_up("a").await?;
    rig.proven("a", backups + 1).await?;
    Ok(())
}

/// What a kill hits.
#[derive(Debug, Clone, Copy)]
enum Victim {
    Coordinator,
    Agent,
    Both,
}

#[tokio::test]
async fn a_request_that_was_accepted_survives_a_kill_at_any_moment() -> Result<()> {
    let mut rig = Rig::start(builder().cluster("a", 1)).await?;
    let mut backups = 0;
    for (number, victim) in [Victim::Coordinator, Victim::Both, Victim::Agent].into_iter().cycle().take(9).enumerate() {
        // At once, and then at moments that nobody chose.
        let pause = if number < 2 { 0 } else { rand::rng().random_range(0..600) };
        let what = || format!("{victim:?} killed after {pause} ms");
        let round = rig.begin("a").await?;
        // No event to wait for: that the moment is arbitrary is the point.
        tokio::time::sleep(Duration::from_millis(pause)).await;
        if matches!(victim, Victim::Coordinator | Victim::Both) {
            rig.kill_coordinator();
        }
        if matches!(victim, Victim::Agent | Victim::Both) {
            rig.agent("a", 0).daemon.kill9();
            rig.agent("a", 0).daemon.start_and_wait(LONG).await?;
        }
        if rig.coordinators[0].daemon.process().is_none() {
            rig.start_coordinator().await?;
        }
        let status = rig.end(&round).await.with_context(what)?;
        let excused = !matches!(victim, Victim::Coordinator) && status.is_error();
        ensure!(status.is_ok() || excused, "{}: {status:?}", what());
        backups += usize::from(status.is_ok());
        rig.holds("a", backups).await.with_context(what)?;
    }
    rig.proven("a", backups).await?;
    Ok(())
}
