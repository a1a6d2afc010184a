//! Each way in which an agent stops and starts its etcd, and what it sees of one that ends at once.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use backstay_tests::{Output, Sabotage, eventually};

use super::LONG;
use super::ground::{CLUSTER, Ground, restorable};
use super::rig::once_heard;

/// The program and the socket of the member's supervisor, which the agent's commands ask.
fn supervisor(ground: &Ground) -> Result<[String; 2]> {
    let text = std::fs::read_to_string(&ground.cluster(CLUSTER).agents[0].config)?;
    let words = text.lines().find_map(|line| line.strip_prefix("stop = [")).context("no stop command")?;
    let words: Vec<_> = words.split('"').filter(|word| word.starts_with('/')).map(str::to_owned).collect();
    words.try_into().map_err(|words| anyhow::anyhow!("{words:?}"))
}

/// Has the agent stop and start etcd in another way, and restores the cluster.
async fn restore_by(ground: &mut Ground, control: &str) -> Result<Output> {
    let agent = ground.agent(CLUSTER, 0);
    let text = std::fs::read_to_string(&agent.config)?;
    // Where the log is each way knows by itself.
    let kept = text.lines().filter(|line| !line.starts_with("log = \"/"));
    let text: String = kept.map(|line| format!("{line}\n")).collect();
    std::fs::write(&agent.config, text.replace("control = \"commands\"", control))?;
    agent.daemon.start_and_wait(LONG).await?;
    ground.agents_known(CLUSTER).await?;
    once_heard(LONG, || ground.restore(&[])).await
}

/// Puts a program before the others of the agent's `PATH`.
fn stand_in(folder: &Path, name: &str, script: &str) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join(name), script)?;
    std::fs::set_permissions(folder.join(name), std::fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// What stands in for systemctl asks the member's supervisor, and for journalctl shows its log. The answer is where
/// it notes what was asked.
fn systemd(ground: &mut Ground) -> Result<PathBuf> {
    let [client, socket] = supervisor(ground)?;
    let bin = ground.folder().join("bin");
    let asked = bin.join("asked");
    let systemctl = format!(
        "#!/bin/sh\ntest \"$2\" = my-etcd.service || exit 9\n\
         case \"$1\" in\n\
         show) if {client} {socket} status 2> /dev/null; then echo ActiveState=active; else echo ActiveState=failed; fi\n\
         echo Result=exit-code; echo NRestarts=0;;\n\
         *) echo \"$@\" >> {}; exec {client} {socket} \"$1\";;\nesac\n",
        asked.display()
    );
    let log = ground.cluster(CLUSTER).supervisors[0].log().display().to_string();
    let journalctl = format!(
        "#!/bin/sh\ncase \"$*\" in *--show-cursor*) echo '-- cursor: s=1';; *--after-cursor=s=1*) tail -n 60 {log};; esac\n"
    );
    stand_in(&bin, "systemctl", &systemctl)?;
    stand_in(&bin, "journalctl", &journalctl)?;
    let path = format!("{}:{}", bin.display(), std::env::var("PATH")?);
    ground.agent(CLUSTER, 0).daemon.set_variable("PATH", &path);
    Ok(asked)
}

const UNIT: &str = "control = \"systemd\"\nunit = \"my-etcd.service\"";

#[tokio::test]
async fn a_systemd_unit_is_stopped_and_started() -> Result<()> {
    let mut ground = Ground::start(restorable(1)).await?;
    let asked = systemd(&mut ground)?;
    restore_by(&mut ground, UNIT).await?.ok()?;
    ground.is_restored().await?;
    ensure!(std::fs::read_to_string(asked)? == "stop my-etcd.service\nstart my-etcd.service\n");
    Ok(())
}

#[tokio::test]
async fn a_unit_that_fails_at_once_is_put_back_with_the_journal_s_last_lines() -> Result<()> {
    let mut ground = Ground::start(restorable(1)).await?;
    systemd(&mut ground)?;
    ground.cluster(CLUSTER).supervisors[0].sabotage(Sabotage::EndsAtOnce);
    let output = restore_by(&mut ground, UNIT).await?;
    for part in
        ["etcd has exited: its unit is failed (exit-code)", "no-such-flag", "the cluster is back as it was before"]
    {
        ensure!(output.stderr.contains(part), "no {part:?}: {output:?}");
    }
    ground.is_as_before().await
}

/// A kubelet's folders: the manifest, where it waits meanwhile, and the container's logs.
struct Kubelet {
    manifest: PathBuf,
    aside: PathBuf,
    logs: PathBuf,
    client: String,
    socket: String,
}

impl Kubelet {
    fn start(ground: &Ground) -> Result<Self> {
        let [client, socket] = supervisor(ground)?;
        let folder = ground.folder().join("kubernetes");
        let (manifest, aside) = (folder.join("manifests/etcd.yaml"), folder.join("backstay-etcd.yaml"));
        let logs = folder.join("pods/kube-system_etcd-node1_1/etcd");
        std::fs::create_dir_all(folder.join("manifests"))?;
        std::fs::create_dir_all(&logs)?;
        std::fs::write(&manifest, "kind: Pod\n")?;
        Ok(Self { manifest, aside, logs, client, socket })
    }

    fn control(&self) -> String {
        format!(
            "control = \"static-pod\"\nlog = \"{}\"\nmanifest = \"{}\"\nmanifest_aside = \"{}\"",
            self.logs.display(),
            self.manifest.display(),
            self.aside.display()
        )
    }

    async fn sees(&self, manifest: bool) -> Result<()> {
        eventually(LONG * 3, || async {
            ensure!(self.manifest.exists() == manifest, "the manifest is not moved");
            Ok(())
        })
        .await
    }

    async fn tell(&self, verb: &str) -> Result<()> {
        let asked = tokio::process::Command::new(&self.client).args([self.socket.as_str(), verb]).status().await?;
        ensure!(asked.success(), "the supervisor does not {verb} etcd");
        Ok(())
    }
}

#[tokio::test]
async fn a_static_pod_is_stopped_and_started() -> Result<()> {
    let mut ground = Ground::start(restorable(1)).await?;
    let kubelet = Kubelet::start(&ground)?;
    let works = async {
        for (is_there, verb) in [(false, "stop"), (true, "start")] {
            kubelet.sees(is_there).await?;
            kubelet.tell(verb).await?;
        }
        Ok(())
    };
    let control = kubelet.control();
    tokio::try_join!(async { restore_by(&mut ground, &control).await?.ok() }, works)?;
    ground.is_restored().await?;
    ensure!(
        std::fs::read_to_string(&kubelet.manifest)? == "kind: Pod\n" && !kubelet.aside.exists(),
        "the manifest is not in its place"
    );
    Ok(())
}

#[tokio::test]
async fn a_pod_whose_container_ends_again_and_again_is_put_back_with_its_last_lines() -> Result<()> {
    let mut ground = Ground::start(restorable(1)).await?;
    let kubelet = Kubelet::start(&ground)?;
    std::fs::write(kubelet.logs.join("3.log"), "2026-11-28T22:00:00Z stderr F panic: of the old container\n")?;
    let works = async {
        kubelet.sees(false).await?;
        kubelet.tell("stop").await?;
        kubelet.sees(true).await?;
        for number in 4..8 {
            let log = "2026-11-28T22:00:01Z stderr F panic: the new container cannot\n";
            std::fs::write(kubelet.logs.join(format!("{number}.log")), log)?;
        }
        // The agent goes back: the manifest goes away, and comes once more.
        kubelet.sees(false).await?;
        kubelet.sees(true).await?;
        kubelet.tell("start").await
    };
    let control = kubelet.control();
    let (output, ()) = tokio::try_join!(restore_by(&mut ground, &control), works)?;
    for part in ["etcd has exited 3 times", "panic: the new container cannot", "the cluster is back as it was before"] {
        ensure!(output.stderr.contains(part), "no {part:?}: {output:?}");
    }
    ground.is_as_before().await
}
