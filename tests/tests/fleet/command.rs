//! `backstayctl restore CLUSTER`: the plan, the refusals, and the good end.

use anyhow::{Context, Result, ensure};
use backstay_tests::{Op, eventually};

use super::LONG;
use super::ground::{BUMP, CLUSTER, Ground, restorable};
use super::rig::once_heard;

#[tokio::test]
async fn three_members_go_back_to_the_backup() -> Result<()> {
    let ground = Ground::start(restorable(3)).await?;
    let printed = ground.restore(&[]).await?.ok()?;
    for part in
        ["Restore of cluster one", "SET ASIDE AS", "before-restore-", "one is restored", "3 member(s) serve and agree"]
    {
        ensure!(printed.contains(part), "no {part:?} in {printed}");
    }
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
    ensure!(!log.contains("etcd's cluster id was") && !log.contains("two etcd clusters"), "{log}");
    Ok(())
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

/// The program and the socket of the member's supervisor, which the agent's commands ask.
fn supervisor(ground: &Ground) -> Result<[String; 2]> {
    let text = std::fs::read_to_string(&ground.cluster(CLUSTER).agents[0].config)?;
    let words = text.lines().find_map(|line| line.strip_prefix("stop = [")).context("no stop command")?;
    let words: Vec<_> = words.split('"').filter(|word| word.starts_with('/')).map(str::to_owned).collect();
    words.try_into().map_err(|words| anyhow::anyhow!("{words:?}"))
}

/// Has the agent stop and start etcd in another way, and restores the cluster.
async fn restore_by(ground: &mut Ground, control: &str) -> Result<()> {
    let agent = ground.agent(CLUSTER, 0);
    let text = std::fs::read_to_string(&agent.config)?.replace("control = \"commands\"", control);
    std::fs::write(&agent.config, text)?;
    agent.daemon.start_and_wait(LONG).await?;
    ground.agents_known(CLUSTER).await?;
    once_heard(LONG, || ground.restore(&[])).await?.ok()?;
    ground.is_restored().await
}

#[tokio::test]
async fn a_systemd_unit_is_stopped_and_started() -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mut ground = Ground::start(restorable(1)).await?;
    // What stands in for systemctl asks the member's supervisor.
    let [client, socket] = supervisor(&ground)?;
    let bin = ground.folder().join("bin");
    std::fs::create_dir(&bin)?;
    let asked = bin.join("asked");
    let script = format!(
        "#!/bin/sh\necho \"$@\" >> {}\ntest \"$2\" = my-etcd.service && exec {client} {socket} \"$1\"\n",
        asked.display()
    );
    std::fs::write(bin.join("systemctl"), script)?;
    std::fs::set_permissions(bin.join("systemctl"), std::fs::Permissions::from_mode(0o755))?;
    let path = format!("{}:{}", bin.display(), std::env::var("PATH")?);
    ground.agent(CLUSTER, 0).daemon.set_variable("PATH", &path);
    restore_by(&mut ground, "control = \"systemd\"\nunit = \"my-etcd.service\"").await?;
    ensure!(std::fs::read_to_string(asked)? == "stop my-etcd.service\nstart my-etcd.service\n");
    Ok(())
}

#[tokio::test]
async fn a_static_pod_is_stopped_and_started() -> Result<()> {
    let mut ground = Ground::start(restorable(1)).await?;
    let [client, socket] = supervisor(&ground)?;
    let folder = ground.folder().join("kubernetes");
    let (manifest, aside) = (folder.join("manifests/etcd.yaml"), folder.join("backstay-etcd.yaml"));
    std::fs::create_dir_all(folder.join("manifests"))?;
    std::fs::write(&manifest, "kind: Pod\n")?;
    // What stands in for the kubelet looks for the manifest, and asks the member's supervisor.
    let kubelet = async {
        for (is_there, verb) in [(false, "stop"), (true, "start")] {
            eventually(LONG * 3, || async {
                ensure!(manifest.exists() == is_there, "nobody asked to {verb} etcd");
                Ok(())
            })
            .await?;
            let asked = tokio::process::Command::new(&client).args([socket.as_str(), verb]).status().await?;
            ensure!(asked.success(), "the supervisor does not {verb} etcd");
        }
        Ok(())
    };
    let control = format!(
        "control = \"static-pod\"\nmanifest = \"{}\"\nmanifest_aside = \"{}\"",
        manifest.display(),
        aside.display()
    );
    tokio::try_join!(restore_by(&mut ground, &control), kubelet)?;
    ensure!(
        std::fs::read_to_string(&manifest)? == "kind: Pod\n" && !aside.exists(),
        "the manifest is not in its place"
    );
    Ok(())
}
