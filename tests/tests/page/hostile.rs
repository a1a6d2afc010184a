//! What others say may hold a terminal's commands: agents in their beats, whoever writes into the bucket, whoever made a
//! name up. It is shown, and no terminal obeys it.

use anyhow::{Context, Result, ensure};
use backstay_protocol::VERSION;
use backstay_protocol::bus::Beat;
use backstay_tests::{Output, Stand, eventually};
use prost::Message;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::terminal::Terminal;
use crate::world::{CLUSTER, SOON, back_up, resources, stand, start};

/// Clears the screen, sets the title, rings, and turns what follows around.
const HOSTILE: &str = "refused\u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}31m\u{202e}";
/// What stands for each such character.
const INSTEAD: char = '\u{fffd}';

/// What was printed on both outputs holds none of the commands.
fn is_harmless(output: &Output) -> Result<String> {
    let text = format!("{}{}", output.stdout, output.stderr);
    let bad = text.chars().find(|c| "\u{1b}\u{7}\u{9b}\u{202e}".contains(*c));
    ensure!(bad.is_none(), "{bad:?} reached the terminal: {text:?}");
    Ok(text)
}

/// And everything else of the text.
fn is_shown_and_harmless(output: &Output) -> Result<()> {
    let text = is_harmless(output)?;
    // Tables have a blank in its place.
    ensure!(text.replace(INSTEAD, " ").contains(" [2J ]0;owned"), "it is not shown: {text:?}");
    Ok(())
}

/// An agent whose etcd is down, for a reason that it made up.
async fn beat(stand: &Stand) -> Result<String> {
    let machine = Uuid::new_v4().to_string();
    let beat = Beat {
        version: VERSION,
        cluster: CLUSTER.into(),
        machine: machine.clone(),
        etcd_error: HOSTILE.into(),
        agent_version: HOSTILE.into(),
        beat_interval_ms: 600_000,
        ..Beat::default()
    };
    let client = stand.nats.client().await?;
    client.publish(format!("backstay.v1.beat.{CLUSTER}.{machine}"), beat.encode_to_vec().into()).await?;
    client.flush().await?;
    Ok(machine)
}

#[tokio::test]
async fn a_beat_commands_no_terminal() -> Result<()> {
    let stand = start(stand().cluster(CLUSTER, 1).local()).await?;
    back_up(&stand, CLUSTER).await?;
    let machine = beat(&stand).await?;
    eventually(SOON, || async {
        let agents = resources(&stand, &["agents"]).await?;
        let agent = agents.iter().find(|agent| agent["metadata"]["id"] == machine.as_str()).context("not heard yet")?;
        ensure!(agent["spec"]["error"].as_str().is_some_and(|error| error.contains("owned")), "{agent}");
        Ok(())
    })
    .await?;
    for command in [&["get", "agents"][..], &["agents", CLUSTER], &["status"]] {
        let output = stand.ctl(command).await?;
        is_shown_and_harmless(&output).with_context(|| format!("{command:?}"))?;
    }
    let status = stand.ctl(&["status"]).await?;
    ensure!(status.status.code() == Some(3) && status.stdout.contains("member down"), "{status:?}");
    for form in ["yaml", "json"] {
        let Output { stdout, .. } = stand.ctl(&["get", "agents", "-o", form]).await?;
        ensure!(!stdout.contains('\u{1b}') && stdout.contains("[2J"), "{form}: {stdout:?}");
    }
    Ok(())
}

/// A cluster whose Talos has a version that a program made up.
async fn apply(stand: &Stand) -> Result<()> {
    let metadata = json!({ "type": "Clusters.omni.sidero.dev", "id": "made-up" });
    let request = json!({ "resource": { "metadata": metadata, "spec": { "talosversion": HOSTILE } } });
    let client = stand.nats.client().await?;
    let answer = client.request("backstay.v1.api.apply.clusters", request.to_string().into()).await?;
    let answer: Value = serde_json::from_slice(&answer.payload)?;
    ensure!(answer["result"]["action"] == "created", "{answer}");
    Ok(())
}

#[tokio::test]
async fn a_resource_commands_no_terminal() -> Result<()> {
    let stand = start(stand().cluster(CLUSTER, 1).local()).await?;
    apply(&stand).await?;
    // The bytes arrive as they were sent.
    let cluster = resources(&stand, &["cluster", "made-up"]).await?.remove(0);
    ensure!(cluster["spec"]["talosversion"] == HOSTILE, "{cluster}");
    is_shown_and_harmless(&stand.ctl(&["get", "cluster"]).await?)?;
    for form in ["yaml", "json", "jsonpath={.spec.talosversion}"] {
        let Output { stdout, .. } = stand.ctl(&["get", "cluster", "made-up", "-o", form]).await?;
        ensure!(!stdout.contains('\u{1b}') && stdout.contains("[2J"), "{form}: {stdout:?}");
    }
    // An error quotes what it is about.
    let refused = stand.ctl(&["get", "cluster", HOSTILE]).await?;
    ensure!(!refused.status.success(), "{refused:?}");
    is_shown_and_harmless(&refused)
}

#[tokio::test]
async fn a_manifest_commands_no_terminal() -> Result<()> {
    let stand = start(stand().cluster(CLUSTER, 1).local()).await?;
    let backup = back_up(&stand, CLUSTER).await?.remove(0);
    let path = stand.local_path().join(backup.manifest_key());
    let good: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
    let write = |manifest: &Value| -> Result<()> {
        std::fs::remove_file(&path)?;
        Ok(std::fs::write(&path, manifest.to_string())?)
    };
    let terminal = Terminal::new(&stand)?;
    let store = format!("--store file://{}", stand.local_path().display());
    let key = stand.coordinators[0].folder.join("recovery.key").display().to_string();
    let restore = format!("backstayctl restore {store} --snapshot latest --identity {key} --data-dir data");

    let mut hostile = good.clone();
    for field in ["etcd_cluster_id", "etcd_version", "member_id"] {
        hostile["origin"][field] = HOSTILE.into();
    }
    write(&hostile)?;
    let listed = terminal.run(&format!("backstayctl list {store} -o wide")).await?;
    ensure!(listed.status.success(), "{listed:?}");
    is_shown_and_harmless(&listed)?;
    let json = terminal.prints(&format!("backstayctl list {store} -o json")).await?;
    let read: Value = serde_json::from_str(&json)?;
    ensure!(read["etcdclusterid"] == HOSTILE && !json.contains('\u{1b}'), "{json:?}");
    is_shown_and_harmless(&terminal.run(&restore).await?)?;

    // One that is refused is quoted where it is told why.
    let mut hostile = good;
    hostile["cluster"] = HOSTILE.into();
    write(&hostile)?;
    let skipped = terminal.run(&format!("backstayctl list {store} -o wide")).await?;
    ensure!(is_harmless(&skipped)?.contains("Note: skipped: "), "{skipped:?}");
    ensure!(skipped.stderr.contains("owned"), "{skipped:?}");
    Ok(())
}
