//! A whole system with these users: a backup from the first beat to the listing, and what people are told who ask
//! for what they may not.

use std::time::Duration;

use anyhow::{Result, ensure};
use backstay_tests::Stand;
use tokio::time::timeout;

use crate::world::{CLUSTER, SOON, back_up, leads, now, stand, start, succeeds};

/// A refusal comes at once; an answer that never comes would be waited for 20 s.
const AT_ONCE: Duration = Duration::from_secs(15);

#[tokio::test]
async fn a_backup_is_taken_and_nobody_was_refused_anything() -> Result<()> {
    let mut stand = start(stand().cluster(CLUSTER, 3).with_permissions()).await?;
    stand.configure_s3().await?;
    let listed = back_up(&stand, CLUSTER).await?;
    ensure!(listed.len() == 1, "{listed:?}");
    succeeds(&stand, CLUSTER).await?;

    // A restart finds everything: streams, records, the consumer of reports.
    stand.coordinators[0].daemon.sigterm_and_wait(SOON).await?;
    stand.coordinators[0].daemon.start()?;
    leads(&stand).await?;
    ensure!(back_up(&stand, CLUSTER).await?.len() == 2);
    succeeds(&stand, CLUSTER).await?;

    let agents = stand.cluster(CLUSTER).agents.iter().map(|a| a.daemon.log());
    for log in agents.chain([stand.coordinators[0].daemon.log()]) {
        let refusals: Vec<&str> = log.lines().filter(|line| line.to_lowercase().contains("violation")).collect();
        ensure!(refusals.is_empty(), "refused: {refusals:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_reader_is_told_at_once_that_it_may_only_look() -> Result<()> {
    let stand = start(stand().cluster(CLUSTER, 1).with_permissions()).await?;
    let users = stand.users.as_ref().expect("built with permissions");
    let seen = stand.ctl_as(Some(&users.reader), &["get", "cluster", CLUSTER, "-o", "yaml"]).await?.ok()?;
    ensure!(seen.contains(CLUSTER), "{seen}");

    let file = stand.folder().join("manual.yaml");
    std::fs::write(&file, Stand::manual_backup(CLUSTER, now()))?;
    let file = file.display().to_string();
    let subject = |verb: &str, kind: &str| {
        format!(
            "does not permit this user to do that: Permissions Violation for Publish to \"backstay.v1.api.{verb}.{kind}\""
        )
    };
    for (arguments, expected) in [
        (vec!["apply", "-f", &file], subject("apply", "etcdmanualbackups")),
        (vec!["delete", "machineset", "x"], subject("delete", "machinesets")),
    ] {
        let output = timeout(AT_ONCE, stand.ctl_as(Some(&users.reader), &arguments)).await??;
        ensure!(output.status.code() == Some(1) && output.stdout.is_empty(), "{output:?}");
        ensure!(output.stderr.starts_with("Error: ") && output.stderr.contains(&expected), "{output:?}");
    }

    // An agent's user has no business with the API at all.
    let machine = stand.cluster(CLUSTER).agents[0].machine;
    let agent = users.agent(CLUSTER, machine);
    let output = timeout(AT_ONCE, stand.ctl_as(agent, &["get", "cluster"])).await??;
    ensure!(output.status.code() == Some(1) && output.stderr.contains("does not permit this user"), "{output:?}");
    Ok(())
}
