//! `backstayctl restore CLUSTER`: the plan, the refusals, and the good end.

use anyhow::{Context, Result, ensure};
use backstay_daemon::SystemClock;
use backstay_protocol::{Clock, Timestamp};
use backstay_tests::{Op, eventually};

use super::LONG;
use super::ground::{BUMP, CLUSTER, Ground, restorable};
use super::rig::once_heard;
use super::states::says;

#[tokio::test]
async fn three_members_go_back_to_the_backup() -> Result<()> {
    let ground = Ground::start(restorable(3)).await?;
    let planned = ground.restore(&["--dry-run"]).await?.ok()?;
    ensure!(planned.contains("OLD DATA MOVES TO") && !planned.contains("is restored"), "{planned}");
    ensure!(ground.get(&["restores"]).await?.is_empty(), "a dry run began a restore");
    let printed = ground.restore(&[]).await?.ok()?;
    for part in [
        "Restore of cluster one",
        "OLD DATA MOVES TO",
        "before-restore-",
        "one was restored",
        "3 members are serving and agree",
    ] {
        ensure!(printed.contains(part), "no {part:?} in {printed}");
    }
    let version = ground.get(&["agents"]).await?[0]["spec"]["etcdversion"].as_str().context("no version")?.to_owned();
    ensure!(printed.matches(&version).count() == 4, "the backup's and each machine's etcd {version}: {printed}");
    let named = printed.lines().filter_map(|line| line.split_once(" is in ")?.1.split(" on machine ").next());
    let named: Vec<&str> = named.collect();
    ensure!(named.len() == 3 && named.iter().all(|folder| std::path::Path::new(folder).is_dir()), "{printed}");
    ground.is_restored().await?;
    ground.is_clean()?;
    let mut client = ground.client().await?;
    let revision = client.get("key", None).await?.header().context("no header")?.revision();
    ensure!(revision >= ground.revision + BUMP, "the revision is {revision}");
    ground.watcher_sees_a_compaction().await?;
    // The cluster lives: it takes writes and backups, and nobody is warned of a cluster id that was meant to change.
    ground.write_later().await?;
    let mut ground = ground;
    ground.must_back_up(CLUSTER).await?;
    let log = ground.coordinators[0].daemon.log();
    ensure!(!log.contains("etcd's cluster ID changed") && !log.contains("two etcd clusters"), "{log}");
    Ok(())
}

#[tokio::test]
async fn the_folders_set_aside_have_the_names_of_the_plan() -> Result<()> {
    let ground = Ground::start(restorable(1)).await?;
    let printed = ground.restore(&[]).await?.ok()?;
    let named = |line: &&str| line.split_whitespace().find(|word| word.contains(".before-restore-")).map(str::to_owned);
    let names: Vec<String> = printed.lines().filter_map(|line| named(&line)).collect();
    ensure!(
        names.len() == 2 && names[0] == names[1] && std::path::Path::new(&names[0]).is_dir(),
        "{names:?} {printed}"
    );
    // A plan that somebody thought about for an hour.
    let seconds = SystemClock.now().as_millis() / 1000 - 3600;
    let planned = Timestamp::from_seconds(seconds).rfc3339();
    let yaml = |started: i64| {
        format!(
            "metadata:\n  namespace: default\n  type: Restores.backstay.dev\n  id: {CLUSTER}\nspec:\n  snapshot: {}\n  \
             started: {{seconds: {started}, nanos: 0}}\n",
            ground.snapshot
        )
    };
    let refused = ground.apply(&yaml(1_600_000_000)).await?;
    ensure!(refused.stderr.contains("request a new plan"), "{refused:?}");
    once_heard(LONG, || async { ground.apply(&yaml(seconds)).await }).await?.ok()?;
    eventually(LONG, || async {
        let spec = ground.spec().await?;
        let aside = spec["machines"][0]["aside"].as_str().context("no machine")?;
        ensure!(spec["phase"] == "restored" && aside.ends_with(&planned.replace([':', '-'], "")), "{spec}");
        ensure!(spec["machines"][0]["left"][0] == aside && std::path::Path::new(aside).is_dir(), "{spec}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_backup_that_runs_is_waited_for() -> Result<()> {
    let mut ground = Ground::start(restorable(1)).await?;
    if !ground.s3.can_fail("a_backup_that_runs_is_waited_for") {
        return Ok(());
    }
    let gate = ground.s3.hold(Op::UploadPart.nth(1));
    let round = ground.begin(CLUSTER).await?;
    gate.reached(LONG).await?;
    let (restored, waited) = tokio::join!(ground.restore(&[]), async {
        let waits = eventually(LONG, || async {
            let spec = ground.spec().await?;
            ensure!(spec["phase"] == "waiting", "it is {spec}");
            Ok(())
        });
        let waits = waits.await;
        // Another word than that of a member that does not answer.
        let word = says(&ground, "restoring", "a restore is running: waiting", "backstayctl get restore one").await;
        let waits = waits.and(word);
        let running = ground.status(CLUSTER).await;
        let clean = ground.is_clean();
        gate.open();
        waits.and(clean).and(running)
    });
    let (output, running) = (restored?, waited?);
    ensure!(running.is_running(), "it was not waited for: {running:?}");
    output.ok()?;
    ensure!(ground.end(&round).await?.is_ok(), "the backup was lost");
    ground.is_restored().await?;
    ground.is_clean()
}

#[tokio::test]
async fn one_member_alone() -> Result<()> {
    let ground = Ground::start(restorable(1)).await?;
    ground.restore(&["--bump-revision", "5000"]).await?.ok()?;
    ground.is_restored().await
}
