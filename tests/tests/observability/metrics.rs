//! The numbers are those of the backups that were taken, and readiness follows what a daemon stands on.

use anyhow::{Context, Result, ensure};
use backstay_tests::{Fault, Op, Stand, eventually};

use crate::look::{CLUSTER, SOON, address, back_up, get, scrape, stand};

/// The addresses of the coordinator and of the agent.
async fn addresses(stand: &Stand) -> Result<(String, String)> {
    let agent = &stand.cluster(CLUSTER).agents[0].daemon;
    Ok((address(&stand.coordinators[0].daemon).await?, address(agent).await?))
}

fn of(name: &str) -> String {
    format!("{name}{{cluster=\"{CLUSTER}\"}}")
}

fn ended(result: &str) -> String {
    format!("backstay_attempts_total{{cluster=\"{CLUSTER}\",result=\"{result}\"}}")
}

#[tokio::test]
async fn metrics_are_those_of_the_backups_that_were_taken() -> Result<()> {
    let stand = stand().start().await?;
    let (coordinator, agent) = addresses(&stand).await?;
    eventually(SOON, || stand.configure_s3()).await?;
    let before = eventually(SOON, || async {
        let seen = scrape(&coordinator).await?;
        ensure!(seen.get(&of("backstay_agents_connected")) == Some(&1.0), "{seen:?}");
        Ok(seen)
    })
    .await?;
    assert_eq!((before["backstay_leader"], before["backstay_bus_connected"]), (1.0, 1.0));
    assert_eq!((before[&of("backstay_cluster_backup_status")], before[&ended("failed")]), (0.0, 0.0));
    assert!(!before.contains_key(&of("backstay_cluster_last_success_timestamp_seconds")), "there was no backup yet");

    let status = back_up(&stand, 1).await?;
    let after = scrape(&coordinator).await?;
    let last = after[&of("backstay_cluster_last_success_timestamp_seconds")];
    let shown = status["lastbackuptime"]["seconds"].as_f64().context("a time")?;
    // One is the time in the backup's name, the other that of its end.
    ensure!(last > 1.7e9 && last <= shown + 1.0 && shown - last < 600.0, "{last} and {shown}");
    assert_eq!(after[&of("backstay_cluster_backup_status")], 1.0);
    assert_eq!((after[&ended("succeeded")], after[&ended("failed")]), (1.0, 0.0));

    let sizes = stand.s3.objects().await?;
    let sealed = sizes.iter().find(|(key, _)| key.ends_with(".snapshot")).context("a backup")?.1;
    let seen = scrape(&agent).await?;
    assert_eq!(seen["backstay_agent_attempts_total{result=\"succeeded\"}"], 1.0);
    assert_eq!(seen["backstay_agent_sealed_bytes_total"], *sealed as f64);
    ensure!(seen["backstay_agent_snapshot_bytes_total"] >= 16384.0, "{seen:?}");
    assert_eq!(seen["backstay_agent_backup_duration_seconds_count"], 1.0);
    assert_eq!((seen["backstay_bus_connected"], seen["backstay_etcd_up"]), (1.0, 1.0));
    eventually(SOON, || async {
        ensure!(scrape(&agent).await?["backstay_agent_outbox_records"] == 0.0, "reports wait");
        Ok(())
    })
    .await?;

    if stand.s3.can_fail("metrics_are_those_of_the_backups_that_were_taken") {
        failed_attempt(&stand, &coordinator, &agent, last).await?;
    }
    Ok(())
}

/// What a store that refuses to complete leaves in the numbers.
async fn failed_attempt(stand: &Stand, coordinator: &str, agent: &str, last: f64) -> Result<()> {
    stand.s3.inject(Op::CreateMultipartUpload.always(), Fault::Status(403));
    back_up(stand, 2).await?;
    let after = scrape(coordinator).await?;
    assert_eq!((after[&ended("succeeded")], after[&ended("failed")]), (1.0, 1.0));
    assert_eq!(after[&of("backstay_cluster_backup_status")], 2.0);
    assert_eq!(after[&of("backstay_cluster_last_success_timestamp_seconds")], last);
    let seen = scrape(agent).await?;
    assert_eq!(seen["backstay_agent_attempts_total{result=\"failed\"}"], 1.0);
    assert_eq!(seen["backstay_agent_backup_duration_seconds_count"], 1.0, "failures have no duration");
    Ok(())
}

/// A backup that is asked for right after another, and ends as that did, is waited for and counted.
#[tokio::test]
async fn two_backups_within_a_second_are_two() -> Result<()> {
    let stand = stand().start().await?;
    let (coordinator, _) = addresses(&stand).await?;
    eventually(SOON, || stand.configure_s3()).await?;
    let (first, second) = (back_up(&stand, 1).await?, back_up(&stand, 1).await?);
    ensure!(first["lastbackupattempt"] != second["lastbackupattempt"], "the second one was not waited for: {second}");
    let seen = scrape(&coordinator).await?;
    assert_eq!((seen[&ended("succeeded")], seen[&ended("failed")]), (2.0, 0.0));
    Ok(())
}

#[tokio::test]
async fn readiness_tells_the_truth_when_nats_and_etcd_go_away() -> Result<()> {
    let mut stand = stand().start().await?;
    let (coordinator, agent) = addresses(&stand).await?;
    says(&coordinator, 200, "ready: leading, epoch ").await?;
    says(&agent, 200, "ready: NATS is connected and etcd is answering").await?;

    stand.nats.stop();
    says(&coordinator, 503, "not ready: NATS is not connected").await?;
    says(&agent, 503, "not ready: NATS is not connected").await?;
    let (seen, led) = (scrape(&agent).await?, scrape(&coordinator).await?);
    assert_eq!((seen["backstay_bus_connected"], led["backstay_bus_connected"]), (0.0, 0.0));
    for address in [&coordinator, &agent] {
        assert_eq!(get(address, "/healthz").await?, (200, "ok\n".into()), "alive it is all the same");
    }
    // Its lease runs out, and it knows.
    eventually(SOON, || async {
        ensure!(scrape(&coordinator).await?["backstay_leader"] == 0.0, "it still leads");
        Ok(())
    })
    .await?;

    stand.nats.restart().await?;
    says(&coordinator, 200, "ready: leading, epoch ").await?;
    says(&agent, 200, "ready: ").await?;
    stand.cluster_mut(CLUSTER).etcd.members[0].kill();
    says(&agent, 503, "not ready: etcd does not answer").await?;
    assert_eq!(scrape(&agent).await?["backstay_etcd_up"], 0.0);
    Ok(())
}

#[tokio::test]
async fn a_standby_is_ready_and_says_that_it_stands_by() -> Result<()> {
    let stand = stand().standby().start().await?;
    let addresses = [address(&stand.coordinators[0].daemon).await?, address(&stand.coordinators[1].daemon).await?];
    eventually(SOON, || async {
        let (one, other) = (get(&addresses[0], "/readyz").await?, get(&addresses[1], "/readyz").await?);
        ensure!(one.0 == 200 && other.0 == 200, "{one:?} {other:?}");
        let by = [&one.1, &other.1].into_iter().filter(|text| *text == "ready: standing by\n").count();
        ensure!(by == 1, "{one:?} {other:?}");
        Ok(())
    })
    .await?;
    let (one, other) = (scrape(&addresses[0]).await?, scrape(&addresses[1]).await?);
    assert_eq!(one["backstay_leader"] + other["backstay_leader"], 1.0);
    let standby = if one["backstay_leader"] == 1.0 { &other } else { &one };
    assert!(!standby.keys().any(|name| name.starts_with("backstay_cluster_")), "only who leads speaks of clusters");
    Ok(())
}

#[tokio::test]
async fn a_port_that_is_taken_stops_no_backup() -> Result<()> {
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let stand = stand()
        .coordinator_variable("BACKSTAY_HTTP__LISTEN", &address)
        .agent_variable("BACKSTAY_HTTP__LISTEN", &address)
        .start()
        .await?;
    eventually(SOON, || stand.configure_s3()).await?;
    back_up(&stand, 1).await?;
    for log in [stand.coordinators[0].daemon.log(), stand.cluster(CLUSTER).agents[0].daemon.log()] {
        let warning = log.lines().find(|line| line.contains("cannot listen")).context("no word of it")?;
        ensure!(warning.contains("WARN") && warning.contains(&address), "{warning}");
    }
    Ok(())
}

/// Waits until `/readyz` answers so.
async fn says(address: &str, status: u16, text: &str) -> Result<()> {
    eventually(SOON, || async {
        let answer = get(address, "/readyz").await?;
        ensure!(answer.0 == status && answer.1.starts_with(text), "{answer:?}");
        Ok(())
    })
    .await
}
