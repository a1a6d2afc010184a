//! Reports that are not what they say: whoever sends them, an attempt belongs to its own machine.

use anyhow::{Result, ensure};
use async_nats::jetstream;
use backstay_protocol::bus::{Failed, FailureCode, Finished, Report, report::State};
use backstay_protocol::subject::Subject;
use backstay_tests::Op;
use prost::Message;

use super::LONG;
use super::raw_commands::RawCommands;
use super::rig::{Rig, builder};

/// Publishes a report on the subject of a machine.
async fn publish(rig: &Rig, machine: &str, report: &Report) -> Result<()> {
    let subject = Subject::Report { cluster: "a".parse()?, machine: machine.parse()? };
    let context = jetstream::new(rig.nats.client().await?);
    context.publish(subject.to_string(), report.encode_to_vec().into()).await?.await?;
    Ok(())
}

#[tokio::test]
async fn a_report_from_another_machine_changes_nothing() -> Result<()> {
    let mut rig = Rig::start(builder().cluster("a", 3)).await?;
    let mut raw = RawCommands::new(&rig).await?;
    let gate = rig.s3.hold(Op::UploadPart.nth(1));
    let round = rig.begin("a").await?;
    gate.reached(LONG).await?;
    let started = raw.started().await?;
    let machines = rig.cluster("a").agents.iter().map(|agent| agent.machine.to_string());
    let others: Vec<String> = machines.filter(|machine| *machine != started.machine).collect();

    let failed = Failed { code: FailureCode::Unspecified.into(), text: "forged".into() };
    for state in [State::Failed(failed), State::Finished(Finished::default())] {
        // As itself, of an attempt that is not its own; then in the name of the attempt's machine.
        let own = Report { machine: others[0].clone(), state: Some(state.clone()), ..started.clone() };
        publish(&rig, &others[0], &own).await?;
        let stolen = Report { state: Some(state), ..started.clone() };
        publish(&rig, &others[1], &stolen).await?;
    }
    let coordinator = &mut rig.coordinators[0].daemon;
    coordinator.wait_for_log("dropped a report about another machine's attempt", LONG).await?;
    coordinator.wait_for_log("it is about another cluster or machine", LONG).await?;
    let status = rig.status("a").await?;
    ensure!(status.is_running(), "{status:?}");

    // The attempt goes on to its end, and was the only one.
    gate.open();
    let status = rig.end(&round).await?;
    ensure!(status.is_ok(), "{status:?}");
    let backup = rig.proven("a", 1).await?.remove(0);
    ensure!(backup.attempt.to_string() == started.attempt, "{backup:?} is not of {started:?}");
    ensure!(!rig.coordinators[0].daemon.log().contains("forged"), "the coordinator believed it");
    Ok(())
}
