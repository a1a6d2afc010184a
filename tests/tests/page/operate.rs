//! What changes something, or only follows it: schedules, contexts, a status that is watched, Ctrl-C, completion.

use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result, ensure};
use backstay_tests::{Op, Output, Stand, eventually};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::ChildStdout;

use crate::terminal::Terminal;
use crate::world::{CLUSTER, SOON, back_up, configured, listed, resources, stand, start};

#[tokio::test]
async fn a_schedule_is_shown_set_and_turned_off() -> Result<()> {
    let stand = configured().await?;
    let terminal = Terminal::new(&stand)?;
    let schedule = format!("backstayctl schedule {CLUSTER}");
    ensure!(terminal.prints(&schedule).await?.contains("no schedule is set"));
    // All else of the resource stays.
    let before = resources(&stand, &["cluster", CLUSTER]).await?.remove(0)["spec"].clone();
    let hourly = format!("{CLUSTER}: a backup every 1h0m0s\n");
    assert_eq!(terminal.prints(&format!("{schedule} 1h")).await?, hourly);
    assert_eq!(terminal.prints(&schedule).await?, hourly);
    let mut after = resources(&stand, &["cluster", CLUSTER]).await?.remove(0)["spec"].clone();
    assert_eq!(after["backupconfiguration"]["interval"]["seconds"], 3600);
    after["backupconfiguration"] = before["backupconfiguration"].clone();
    assert_eq!(after, before);
    // The first backup is taken at once where none exists.
    eventually(SOON, || async {
        ensure!(listed(&stand, CLUSTER).await?.len() == 1, "no backup yet");
        Ok(())
    })
    .await?;
    let off = terminal.prints(&format!("{schedule} off")).await?;
    ensure!(off.starts_with(&format!("{CLUSTER}: automatic backups are off")), "{off}");
    let refused = terminal.refused(&format!("{schedule} 25h")).await?;
    let says = "backup interval must be at most 24h0m0s, got 25h0m0s";
    assert_eq!(refused, format!("Error: failed to set the schedule of \"{CLUSTER}\": {says}"));
    assert_eq!(
        terminal.refused("backstayctl schedule nowhere 1h").await?,
        "Error: cluster \"nowhere\" does not exist: see `backstayctl get clusters`"
    );
    Ok(())
}

#[tokio::test]
async fn a_context_says_where_nats_is() -> Result<()> {
    let stand = start(stand().cluster(CLUSTER, 1)).await?;
    let terminal = Terminal::new(&stand)?;
    let url = stand.nats.url();
    let ctl = "env -u BACKSTAY_NATS_URL BACKSTAYCTL_CONFIG=here/config.toml backstayctl";
    terminal.prints(&format!("{ctl} config set-context here --nats {url}")).await?;
    terminal.prints(&format!("{ctl} config set-context nowhere --nats nats://127.0.0.1:1")).await?;
    let mode = std::fs::metadata(terminal.folder().join("here/config.toml"))?.permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    terminal.prints(&format!("{ctl} config use-context nowhere")).await?;
    let asks = "get cluster -o jsonpath={.metadata.id}";
    let refused = terminal.refused(&format!("{ctl} {asks}")).await?;
    ensure!(refused.starts_with("Error: cannot reach NATS on nats://127.0.0.1:1 ("), "{refused}");
    // A context that is named beats the current one, and the environment; a flag beats all.
    let found = format!("{CLUSTER}\n");
    assert_eq!(terminal.prints(&format!("{ctl} --context here {asks}")).await?, found);
    let env = ctl.replace("-u BACKSTAY_NATS_URL", "BACKSTAY_NATS_URL=nats://127.0.0.1:2");
    assert_eq!(terminal.prints(&format!("{env} {asks} --context here")).await?, found);
    let refused = terminal.refused(&format!("{env} {asks}")).await?;
    ensure!(refused.contains("nats://127.0.0.1:2"), "the environment beats the current context: {refused}");
    assert_eq!(terminal.prints(&format!("{env} {asks} --nats {url}")).await?, found);
    terminal.prints(&format!("{ctl} config use-context here")).await?;
    assert_eq!(terminal.prints(&format!("{ctl} {asks}")).await?, found);
    Ok(())
}

/// The next line that begins so.
async fn line(lines: &mut Lines<BufReader<ChildStdout>>, begin: &str) -> Result<String> {
    let found = async {
        loop {
            let line = lines.next_line().await?.context("the watch has ended")?;
            if line.starts_with(begin) {
                return anyhow::Ok(line);
            }
        }
    };
    tokio::time::timeout(SOON, found).await.with_context(|| format!("no line begins with {begin}"))?
}

#[tokio::test]
async fn a_status_that_is_watched_is_printed_again_when_it_changes() -> Result<()> {
    let stand = configured().await?;
    let terminal = Terminal::new(&stand)?;
    let mut watch = terminal.begin("backstayctl status --watch")?;
    let mut lines = BufReader::new(watch.stdout.take().context("its output is ours")?).lines();
    let first = line(&mut lines, CLUSTER).await?;
    ensure!(first.contains("   never   "), "{first}");
    back_up(&stand, CLUSTER).await?;
    stand.configure_backups(CLUSTER, "{interval: {seconds: 3600, nanos: 0}}").await?;
    while !line(&mut lines, CLUSTER).await?.contains("   ok   ") {}
    // On a terminal it is drawn in place.
    let Output { stdout, .. } =
        terminal.run("timeout 30 script -qec 'timeout -s INT 3 backstayctl status --watch' /dev/null || true").await?;
    ensure!(stdout.contains("\u{1b}[H") && stdout.contains("Ctrl-C ends it"), "{stdout:?}");
    Ok(())
}

#[tokio::test]
async fn an_interruption_says_that_the_backup_goes_on() -> Result<()> {
    let stand = configured().await?;
    let terminal = Terminal::new(&stand)?;
    if !stand.s3.can_fail("an_interruption_says_that_the_backup_goes_on") {
        return Ok(());
    }
    let gate = stand.s3.hold(Op::CreateMultipartUpload.always());
    let mut waits = terminal.begin(&format!("backstayctl backup {CLUSTER} --wait"))?;
    gate.reached(SOON).await?;
    // It listens once it follows: its first line says that.
    let mut said = BufReader::new(waits.stderr.take().context("its output is ours")?);
    let mut stderr = String::new();
    tokio::time::timeout(SOON, said.read_line(&mut stderr)).await.context("nothing is said")??;
    let process = waits.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw).context("it has ended")?;
    kill_process(process, Signal::INT)?;
    let ended = tokio::time::timeout(SOON, waits.wait()).await.context("it goes on")??;
    said.read_to_string(&mut stderr).await?;
    let follow =
        format!("Interrupted. The backup of \"{CLUSTER}\" goes on: follow it with `backstayctl runs {CLUSTER}`\n");
    ensure!(ended.code() == Some(130) && stderr.ends_with(&follow), "{ended}: {stderr}");
    gate.open();
    eventually(SOON, || async {
        ensure!(listed(&stand, CLUSTER).await?.len() == 1, "no backup yet");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_verification_is_printed_as_the_resource_that_it_is() -> Result<()> {
    let stand = configured().await?;
    let terminal = Terminal::new(&stand)?;
    let backup = back_up(&stand, CLUSTER).await?.remove(0);
    let Output { status, stdout, stderr } = terminal.run(&format!("backstayctl verify {CLUSTER} -o json")).await?;
    ensure!(status.success(), "{status}: {stderr}");
    let found: Value = serde_json::from_str(&stdout).with_context(|| stdout.clone())?;
    assert_eq!((&found["metadata"]["id"], &found["spec"]["snapshot"]), (&CLUSTER.into(), &backup.snapshot.into()));
    Ok(())
}

/// What bash offers for a line, by the script that `completion bash` prints.
async fn completes(terminal: &Terminal, line: &str) -> Result<Vec<String>> {
    let words: Vec<String> = line.split(' ').map(|word| format!("'{word}'")).collect();
    let (at, last) = (words.len() - 1, words.last().context("a word")?.clone());
    let command = format!(
        "source <(backstayctl completion bash); set +eu; COMP_WORDS=({}); COMP_CWORD={at}; COMP_TYPE=9; \
         _clap_complete_backstayctl backstayctl {last} '' 2>err; printf '%s\n' \"${{COMPREPLY[@]}}\"; cat err",
        words.join(" ")
    );
    Ok(terminal.prints(&command).await?.lines().map(str::to_owned).filter(|word| !word.is_empty()).collect())
}

async fn offers(terminal: &Terminal, line: &str, expected: &str) -> Result<()> {
    let found = completes(terminal, line).await?;
    ensure!(found.iter().any(|word| word == expected), "`{line}`: no {expected} in {found:?}");
    Ok(())
}

#[tokio::test]
async fn bash_completes_commands_clusters_types_and_snapshots() -> Result<()> {
    let stand = configured().await?;
    let terminal = Terminal::new(&stand)?;
    let backup = back_up(&stand, CLUSTER).await?.remove(0);
    assert_eq!(completes(&terminal, "backstayctl ba").await?, ["backup", "backups"]);
    offers(&terminal, "backstayctl backup ta", CLUSTER).await?;
    offers(&terminal, "backstayctl get etcdbackups3", "etcdbackups3config").await?;
    offers(&terminal, "backstayctl get cluster ", CLUSTER).await?;
    let restore = format!("backstayctl restore {CLUSTER} --snapshot ");
    offers(&terminal, &restore, "latest").await?;
    offers(&terminal, &restore, &backup.snapshot).await?;
    // Where nobody answers there is silence.
    let nobody = completes(&terminal, "backstayctl --nats nats://127.0.0.1:1 backup ta").await?;
    ensure!(nobody.is_empty(), "{nobody:?}");
    Ok(())
}

#[tokio::test]
async fn nobody_waits_for_a_completion_that_does_not_come() -> Result<()> {
    let stand = Stand::builder().cluster(CLUSTER, 1).idle().start().await?;
    let client = async_nats::connect(stand.nats.url()).await.context("failed to connect")?;
    let _deaf = client.subscribe("backstay.v1.api.>").await.context("failed to subscribe")?;
    client.flush().await.context("failed to flush")?;
    let terminal = Terminal::new(&stand)?;
    let found = completes(&terminal, "backstayctl backup ta").await?;
    ensure!(found.is_empty(), "{found:?}");
    Ok(())
}
