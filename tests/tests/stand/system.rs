//! The whole system: it comes up by the documented command lines, answers, and is gone when dropped.

use anyhow::{Context, Result};
use backstay_tests::{Stand, eventually};

use super::{SOON, runs};

#[tokio::test]
async fn it_starts_answers_and_is_gone() -> Result<()> {
    let stand = Stand::start("talos-default", 1).await?;
    // A coordinator is ready before it leads: another one may hold the lease.
    let table = eventually(SOON, || async { stand.ctl(&["get", "etcdbackupoverallstatus"]).await?.ok() }).await?;
    assert!(table.starts_with("NAMESPACE   TYPE "), "{table}");
    let agent = &stand.cluster("talos-default").agents[0];
    let coordinator = stand.coordinators[0].daemon.process().context("it runs")?.id();
    let ids = [agent.daemon.process().context("it runs")?.id(), coordinator];
    assert!(ids.into_iter().all(runs));
    let folder = stand.folder().to_owned();
    drop(stand);
    assert!(!ids.into_iter().any(runs) && !folder.exists());
    Ok(())
}

#[tokio::test]
async fn a_daemon_ends_at_sigterm_and_starts_again() -> Result<()> {
    let mut stand = Stand::builder().cluster("a", 1).local().start().await?;
    let agent = &mut stand.cluster_mut("a").agents[0].daemon;
    assert!(agent.sigterm_and_wait(SOON).await?.success(), "{}", agent.log());
    agent.start_and_wait(SOON).await?;
    let refused = stand.ctl(&["get", "nothing-of-that-name"]).await?;
    assert!(!refused.status.success() && refused.stderr.starts_with("Error: "), "{refused:?}");
    Ok(())
}

#[tokio::test]
async fn a_standby_and_two_clusters_run_side_by_side() -> Result<()> {
    let mut stand = Stand::builder().cluster("a", 1).cluster("b", 3).standby().start().await?;
    assert_eq!((stand.cluster("a").agents.len(), stand.cluster("b").agents.len()), (1, 3));
    let states: Vec<_> = stand.coordinators.iter().map(|c| c.daemon.process().map(|p| p.id())).collect();
    assert!(states.len() == 2 && states[0].is_some() && states[1].is_some() && states[0] != states[1]);
    for coordinator in &mut stand.coordinators {
        assert!(coordinator.daemon.sigterm_and_wait(SOON).await?.success(), "{}", coordinator.daemon.log());
    }
    Ok(())
}

#[tokio::test]
async fn a_daemon_that_ends_early_is_a_clear_error() -> Result<()> {
    let mut stand = Stand::builder().cluster("a", 1).idle().start().await?;
    let agent = &mut stand.clusters[0].agents[0];
    std::fs::write(&agent.config, "no_such_setting = 1\n")?;
    let error = agent.daemon.start_and_wait(SOON).await.expect_err("the configuration is wrong");
    let text = format!("{error:#}");
    assert!(text.contains("agent-a-m1 does not get ready") && text.contains("no_such_setting"), "{text}");
    Ok(())
}
