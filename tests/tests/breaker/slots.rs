//! Two agents for one slot, two slots for one name, the same attempt twice; and commands that must be refused.

use anyhow::{Context, Result, ensure};
use backstay_daemon::SystemClock;
use backstay_protocol::bus::{self, CancelReply, FailureCode, RefusalCode, Refused, StartBackup};
use backstay_protocol::subject::Command;
use backstay_protocol::{Clock, SnapshotName};
use backstay_tests::Op;
use uuid::Uuid;

use super::LONG;
use super::raw_commands::{NEWEST, RawCommands, accepted, failure, is_finished};
use super::rig::{Rig, builder};

/// Commands for two agents of `a`, for one name.
async fn two(rig: &Rig, raw: &RawCommands) -> Result<(StartBackup, StartBackup)> {
    let first = raw.command(rig, "a", 0).await?;
    let mut second = raw.command(rig, "a", 1).await?;
    second.snapshot.clone_from(&first.snapshot);
    Ok((first, second))
}

/// Starts both and holds them until both ask for completion; what the one that loses says.
async fn race(rig: &Rig, raw: &mut RawCommands, first: &StartBackup, second: &StartBackup) -> Result<FailureCode> {
    let before = rig.s3.count(Op::CompleteMultipartUpload);
    let gate = rig.s3.hold(Op::CompleteMultipartUpload.always());
    for command in [first, second] {
        raw.begin(command).await?;
    }
    rig.s3.reached(Op::CompleteMultipartUpload, before + 2, LONG).await?;
    gate.open();
    rig.s3.clear_faults();
    let reports = raw.final_reports(&[first, second]).await?;
    ensure!(is_finished(&reports[0]), "{reports:?}");
    let newest = rig.proven("a", rig.count("a").await?).await?.remove(0);
    ensure!(newest.attempt.to_string() == reports[0].attempt, "{newest:?} is not of {reports:?}");
    Ok(failure(&reports[1])?.code())
}

#[tokio::test]
async fn two_agents_for_one_name_make_one_backup() -> Result<()> {
    let rig = Rig::start(builder().cluster("a", 3)).await?;
    let mut raw = RawCommands::new(&rig).await?;
    let (first, mut second) = two(&rig, &raw).await?;
    second.slot.clone_from(&first.slot);
    ensure!(race(&rig, &mut raw, &first, &second).await? == FailureCode::SlotDone, "not SLOT_DONE");
    rig.holds("a", 1).await?;

    // Late as well: with the backup there, a further attempt for its slot has nothing to do.
    let mut late = StartBackup { attempt: Uuid::new_v4().to_string(), ..second.clone() };
    raw.begin(&late).await?;
    ensure!(failure(&raw.final_reports(&[&late]).await?[0])?.code() == FailureCode::SlotDone, "not SLOT_DONE");
    late.attempt = Uuid::new_v4().to_string();
    late.slot = Uuid::new_v4().to_string();
    raw.begin(&late).await?;
    ensure!(failure(&raw.final_reports(&[&late]).await?[0])?.code() == FailureCode::NameTaken, "not NAME_TAKEN");
    rig.holds("a", 1).await?;

    // Different slots under one name.
    let (first, second) = two(&rig, &raw).await?;
    ensure!(race(&rig, &mut raw, &first, &second).await? == FailureCode::NameTaken, "not NAME_TAKEN");
    rig.proven("a", 2).await?;
    Ok(())
}

#[tokio::test]
async fn the_same_attempt_twice_is_one() -> Result<()> {
    let mut rig = Rig::start(builder().cluster("a", 1)).await?;
    let mut raw = RawCommands::new(&rig).await?;
    let command = raw.command(&rig, "a", 0).await?;
    let gate = rig.s3.hold(Op::UploadPart.nth(1));
    ensure!(raw.start(&command).await?.is_ok() && raw.start(&command).await?.is_ok(), "refused");
    gate.reached(LONG).await?;
    ensure!(raw.start(&command).await?.is_ok(), "refused");
    gate.open();
    let report = raw.final_reports(&[&command]).await?.remove(0);
    ensure!(is_finished(&report), "it failed: {report:?}");
    rig.holds("a", 1).await?;
    // Once more afterwards, and after a restart: the same report, no second backup.
    let again = raw.report_again(&command).await?;
    ensure!(again == report, "{again:?} is not {report:?}");
    rig.agent("a", 0).daemon.kill9();
    rig.agent("a", 0).daemon.start_and_wait(LONG).await?;
    raw.beat(&command.machine).await?;
    let again = raw.report_again(&command).await?;
    ensure!(again == report, "after a restart {again:?} is not {report:?}");
    rig.proven("a", 1).await?;
    Ok(())
}

#[tokio::test]
async fn a_name_that_is_taken_moves_on() -> Result<()> {
    const TAKEN: i64 = 6;
    let mut rig = Rig::start(builder().cluster("a", 1)).await?;
    let mut raw = RawCommands::new(&rig).await?;
    let now = SystemClock.now().seconds;
    // The coordinator names its backup after the time, so one of these stands in its way.
    for ahead in 1..=TAKEN {
        let mut command = raw.command(&rig, "a", 0).await?;
        command.epoch = 1;
        command.snapshot = SnapshotName::from_unix_seconds(now + ahead)?.to_string();
        raw.begin(&command).await?;
        ensure!(is_finished(&raw.final_reports(&[&command]).await?[0]), "it failed");
    }
    rig.must_back_up("a").await?;
    let manifests = rig.proven("a", TAKEN as usize + 1).await?;
    let slots: std::collections::HashSet<_> = manifests.iter().map(|m| m.slot).collect();
    ensure!(slots.len() == manifests.len(), "{manifests:?}");
    Ok(())
}

/// The code of a refusal; an error where it was none.
fn code(answer: Result<(), Refused>) -> Result<RefusalCode> {
    Ok(answer.err().context("it was accepted")?.code())
}

#[tokio::test]
async fn wrong_commands_are_refused_by_name() -> Result<()> {
    let mut rig = Rig::start(builder().cluster("a", 1)).await?;
    // The agent has seen the coordinator's epoch.
    rig.must_back_up("a").await?;
    let mut raw = RawCommands::new(&rig).await?;
    let good = StartBackup { epoch: rig.epoch(0)?, ..raw.command(&rig, "a", 0).await? };
    let with = |change: &dyn Fn(&mut StartBackup)| {
        let mut command = good.clone();
        change(&mut command);
        command
    };
    let other = Uuid::new_v4().to_string();
    for (what, expected, command) in [
        ("an older epoch", RefusalCode::StaleEpoch, with(&|c| c.epoch = 1)),
        ("another cluster", RefusalCode::WrongAddress, with(&|c| c.cluster = "b".into())),
        ("another machine", RefusalCode::WrongAddress, with(&|c| c.machine.clone_from(&other))),
        ("a later version", RefusalCode::UnknownVersion, with(&|c| c.version = 99)),
        ("no store", RefusalCode::Invalid, with(&|c| c.store = None)),
        ("no attempt", RefusalCode::Invalid, with(&|c| c.attempt.clear())),
        ("a name that is none", RefusalCode::Invalid, with(&|c| c.snapshot = "../x.snapshot".into())),
        ("a recipient that is none", RefusalCode::Invalid, with(&|c| c.recipients = vec!["age1x".into()])),
    ] {
        let got = code(raw.start_at(&good, &command).await?).context(what)?;
        ensure!(got == expected, "{what}: {got:?}");
    }
    for body in [vec![], vec![0xFF; 300], b"{\"version\":1}".to_vec()] {
        let answer = raw.send(&good, Command::Start, body.clone()).await?;
        let got = code(accepted(&answer)?).with_context(|| format!("{body:?}"))?;
        ensure!(matches!(got, RefusalCode::Invalid | RefusalCode::UnknownVersion), "{body:?}: {got:?}");
        let answer = raw.send(&good, Command::Cancel, body).await?;
        ensure!(!bus::decode::<CancelReply>(&answer)?.cancelled, "garbage cancelled something");
    }
    // None of this changed anything, and the coordinator is heard as before.
    rig.must_back_up("a").await?;
    rig.proven("a", 2).await?;

    // A newer epoch is taken. The coordinator, whose own is old from then on, leads again above it.
    let snapshot = SnapshotName::from_unix_seconds(SystemClock.now().seconds - 3600)?.to_string();
    let newer = StartBackup { epoch: NEWEST, snapshot, ..good };
    ensure!(raw.start(&newer).await?.is_ok(), "refused");
    ensure!(is_finished(&raw.final_reports(&[&newer]).await?[0]), "it failed");
    rig.must_back_up("a").await?;
    ensure!(rig.epoch(0)? > NEWEST, "it leads in epoch {}", rig.epoch(0)?);
    rig.proven("a", 4).await?;
    Ok(())
}
