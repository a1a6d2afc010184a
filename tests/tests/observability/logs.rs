//! Logs as a program reads them: each line is one JSON object, and each line of an attempt says which.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use backstay_tests::{Daemon, Fault, Op, eventually};
use serde_json::Value;

use crate::look::{CLUSTER, SOON, back_up, stand};

fn lines(daemon: &Daemon) -> Result<Vec<Value>> {
    let log = daemon.log();
    log.lines().map(|line| serde_json::from_str(line).with_context(|| format!("no JSON: {line}"))).collect()
}

fn says(line: &Value, text: &str) -> bool {
    line["message"].as_str().is_some_and(|message| message.starts_with(text))
}

#[tokio::test]
async fn every_line_of_an_attempt_says_which_attempt_it_belongs_to() -> Result<()> {
    let stand = stand().agent_variable("BACKSTAY_LOG", "debug").coordinator_variable("BACKSTAY_LOG", "debug");
    let mut stand = stand.idle().start().await?;
    for config in
        [stand.cluster(CLUSTER).agents[0].config.clone(), stand.coordinators[0].folder.join("coordinator.toml")]
    {
        let text = std::fs::read_to_string(&config)?;
        std::fs::write(&config, format!("log = \"json\"\n{text}"))?;
    }
    stand.start_daemons().await?;
    eventually(SOON, || stand.configure_s3()).await?;
    back_up(&stand, 1).await?;
    let failing = stand.s3.can_fail("every_line_of_an_attempt_says_which_attempt_it_belongs_to");
    if failing {
        stand.s3.inject(Op::CreateMultipartUpload.always(), Fault::Status(403));
        back_up(&stand, 2).await?;
    }
    let agent = &mut stand.cluster_mut(CLUSTER).agents[0].daemon;
    agent.sigterm_and_wait(SOON).await?;
    stand.coordinators[0].daemon.sigterm_and_wait(SOON).await?;

    let asked = attempts_of(&lines(&stand.coordinators[0].daemon)?, "requesting a backup")?;
    assert_eq!(asked.len(), 1 + usize::from(failing));
    let agent = lines(&stand.cluster(CLUSTER).agents[0].daemon)?;
    assert_eq!(attempts_of(&agent, "starting the attempt")?, asked);
    // At most one attempt is under way on an agent: whatever the pipeline and the store say in between is its own.
    let (mut current, mut within) = (None, 0);
    for line in &agent {
        if says(line, "starting the attempt") {
            current = line["attempt"].as_str();
        }
        let target = line["target"].as_str().context("a target")?;
        let of_the_work = ["backstay_agent::attempt", "backstay_archive", "aws_smithy_runtime::", "aws_sdk_s3"];
        if let Some(id) = current.filter(|_| of_the_work.iter().any(|begin| target.starts_with(begin))) {
            ensure!(line["attempt"] == id, "attempt {id} is under way: {line}");
            within += 1;
        }
        if says(line, "the backup is verified") || says(line, "the attempt failed") {
            current = None;
        }
    }
    ensure!(within > 10, "only {within} lines belong to attempts");
    let arrived = agent.iter().filter(|line| says(line, "the report was delivered"));
    let arrived: BTreeSet<&str> = arrived.filter_map(|line| line["attempt"].as_str()).collect();
    ensure!(arrived.into_iter().eq(asked.iter().map(String::as_str)), "reports arrive without their attempt");

    let coordinator = lines(&stand.coordinators[0].daemon)?;
    let stored = attempts_of(&coordinator, "the backup is in the store")?;
    ensure!(stored.len() == 1 && stored.is_subset(&asked), "{stored:?}");
    assert_eq!(attempts_of(&coordinator, "the attempt failed")?.len(), usize::from(failing));
    Ok(())
}

/// The attempts of the lines that begin so; one without is an error.
fn attempts_of(lines: &[Value], text: &str) -> Result<BTreeSet<String>> {
    let of = lines.iter().filter(|line| says(line, text));
    of.map(|line| Ok(line["attempt"].as_str().with_context(|| format!("no attempt: {line}"))?.to_owned())).collect()
}
