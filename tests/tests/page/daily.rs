//! Daily work: agents, runs, status, `backup --wait`, `get --watch`, and a template's way back, on real parts.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use backstay_tests::daemon::{bare_command, binary};
use backstay_tests::{Fault, Op, Output, Stand, eventually};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::ChildStdout;

use crate::terminal::Terminal;
use crate::world::{CLUSTER, SOON, configured, leads, listed, objects, resources, stand, start};

/// The word of each cluster, in the order of `status`, and its exit code.
async fn words(terminal: &Terminal) -> Result<(Vec<(String, String)>, Option<i32>)> {
    let Output { status, stdout, .. } = terminal.run("backstayctl status -o json").await?;
    let all = objects(&stdout)?;
    let word = |health: &Value| Some((health["cluster"].as_str()?.to_owned(), health["status"].as_str()?.to_owned()));
    Ok((all.iter().filter_map(word).collect(), status.code()))
}

fn word(word: &str) -> Vec<(String, String)> {
    vec![(CLUSTER.to_owned(), word.to_owned())]
}

#[tokio::test]
async fn a_backup_is_waited_for_and_seen_in_every_list() -> Result<()> {
    let stand = configured().await?;
    let terminal = Terminal::new(&stand)?;
    let machine = stand.cluster(CLUSTER).agents[0].machine.to_string();

    let agents = terminal.prints("backstayctl agents -o wide").await?;
    let row = agents.lines().nth(1).context("one agent")?;
    ensure!(row.starts_with(&format!("{CLUSTER}   {machine}   ")) && row.contains("   leader   "), "{agents}");
    assert_eq!(terminal.prints(&format!("backstayctl agents {CLUSTER}")).await?.lines().count(), 2);
    let cluster = terminal.prints("backstayctl agents -o jsonpath='{.spec.cluster}'").await?;
    assert_eq!(cluster, format!("{CLUSTER}\n"));
    let nowhere = terminal.refused("backstayctl agents nowhere").await?;
    assert_eq!(nowhere, "Error: cluster \"nowhere\" does not exist: see `backstayctl get clusters`");
    assert_eq!(words(&terminal).await?, (word("never"), Some(3)));
    // In colour on a terminal, unless that is not wanted; never into a pipe.
    for (command, coloured) in [
        ("env -u NO_COLOR script -qec 'backstayctl status' /dev/null", true),
        ("NO_COLOR=1 script -qec 'backstayctl status' /dev/null", false),
        ("backstayctl status", false),
    ] {
        let Output { status, stdout, .. } = terminal.run(command).await?;
        ensure!(status.code() == Some(3) && stdout.contains("never"), "{command}: {status}, {stdout}");
        ensure!(stdout.contains('\u{1b}') == coloured, "{command}: {stdout:?}");
    }

    // Two in a row are two, however short the first one is.
    for count in 1..=2 {
        let Output { status, stdout, stderr } = terminal.run(&format!("backstayctl backup {CLUSTER} --wait")).await?;
        ensure!(status.success(), "{stdout}{stderr}");
        let newest = listed(&stand, CLUSTER).await?;
        assert_eq!(newest.len(), count);
        let expected = format!("backup of {CLUSTER} is complete: {}, ", newest[0].snapshot);
        ensure!(stdout.starts_with(&expected) && stdout.contains(", revision "), "{stdout}");
        ensure!(!stderr.contains('\u{1b}'), "no terminal, no bar: {stderr}");
    }

    let runs = terminal.prints(&format!("backstayctl runs {CLUSTER} -o wide")).await?;
    assert_eq!(runs.lines().count(), 3, "{runs}");
    let is_ours = |row: &str| row.contains(&format!("   {machine}   ")) && row.contains("   manual    ok   ");
    ensure!(runs.lines().skip(1).all(is_ours), "{runs}");
    let snapshots = terminal.prints(&format!("backstayctl runs {CLUSTER} -o jsonpath='{{.spec.snapshot}}'")).await?;
    let newest_first: Vec<String> = listed(&stand, CLUSTER).await?.into_iter().map(|backup| backup.snapshot).collect();
    assert_eq!(snapshots.lines().collect::<Vec<_>>(), newest_first);
    // By hand alone: that is fine once somebody has said so.
    assert_eq!(words(&terminal).await?, (word("no schedule"), Some(3)));
    stand.configure_backups(CLUSTER, "{enabled: false}").await?;
    assert_eq!(words(&terminal).await?, (word("off"), Some(0)));
    stand.configure_backups(CLUSTER, "{interval: {seconds: 3600, nanos: 0}}").await?;
    assert_eq!(words(&terminal).await?, (word("ok"), Some(0)));
    Ok(())
}

#[tokio::test]
async fn a_backup_that_fails_ends_the_wait_with_its_error() -> Result<()> {
    let stand = configured().await?;
    let terminal = Terminal::new(&stand)?;
    let early = terminal.refused("backstayctl backup nowhere --wait").await?;
    assert_eq!(early, "Error: cluster \"nowhere\" does not exist: see `backstayctl get clusters`");
    if !stand.s3.can_fail("a_backup_that_fails_ends_the_wait_with_its_error") {
        return Ok(());
    }
    terminal.run(&format!("backstayctl backup {CLUSTER} --wait")).await?.ok()?;
    let fault = Op::CreateMultipartUpload.always();
    stand.s3.inject(fault, Fault::Status(403));
    let Output { status, stdout, stderr } = terminal.run(&format!("backstayctl backup {CLUSTER} --wait")).await?;
    assert_eq!((status.code(), stdout.as_str()), (Some(1), ""), "{stderr}");
    let error = stderr.lines().last().unwrap_or_default();
    ensure!(error.starts_with(&format!("Error: failed to back up \"{CLUSTER}\": ")), "{stderr}");
    ensure!(error.contains("AccessDenied"), "{stderr}");
    assert_eq!(words(&terminal).await?, (word("failing"), Some(3)));
    let runs = terminal.prints(&format!("backstayctl runs {CLUSTER}")).await?;
    ensure!(runs.lines().nth(1).is_some_and(|row| row.contains("   failed   ")), "{runs}");
    assert_eq!(listed(&stand, CLUSTER).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_coordinator_that_hangs_is_told_soon_and_does_nothing_when_it_wakes() -> Result<()> {
    let mut stand = configured().await?;
    let terminal = Terminal::new(&stand)?;
    let machine = "7d3a5a4c-9a0d-4c39-9b3c-3a2f1d9c2f10";
    let node = format!("metadata: {{type: MachineSetNodes.omni.sidero.dev, id: {machine}}}\nspec: {{}}\n");
    std::fs::write(terminal.folder().join("node.yaml"), node)?;
    terminal.prints("backstayctl apply -f node.yaml").await?;
    stand.coordinators[0].daemon.pause()?;
    // Two at a time: each waits for as long as a coordinator may take.
    let change = format!("backstayctl delete msn {machine}");
    let store = format!("backstayctl get etcdbackup --selector omni.sidero.dev/cluster={CLUSTER}");
    let (removed, asked) = tokio::join!(terminal.refused(&change), terminal.refused(&store));
    let (removed, asked) = (removed?, asked?);
    for said in [&removed, &asked] {
        ensure!(
            said.contains("no coordinator answers on nats://") && said.contains("(no answer within 5 s)"),
            "{said}"
        );
    }
    stand.coordinators[0].daemon.resume()?;
    leads(&stand).await?;
    let left = terminal.prints("backstayctl get msn -o jsonpath={.metadata.id}").await?;
    ensure!(left.contains(machine), "it was deleted after all: {left}");
    Ok(())
}

#[tokio::test]
async fn the_wait_outlives_the_coordinator_and_a_loss_of_nats() -> Result<()> {
    let mut stand = configured().await?;
    let terminal = Terminal::new(&stand)?;
    if !stand.s3.can_fail("the_wait_outlives_the_coordinator_and_a_loss_of_nats") {
        return Ok(());
    }
    let gate = stand.s3.hold(Op::CreateMultipartUpload.always());
    let command = format!("backstayctl backup {CLUSTER} --wait");
    let change = async {
        gate.reached(SOON).await?;
        stand.coordinators[0].daemon.kill9();
        stand.nats.stop();
        stand.nats.restart().await?;
        stand.coordinators[0].daemon.start_and_wait(SOON).await?;
        leads(&stand).await?;
        gate.open();
        anyhow::Ok(())
    };
    let (ended, changed) = tokio::join!(terminal.run(&command), change);
    changed?;
    let stdout = ended?.ok()?;
    ensure!(stdout.starts_with(&format!("backup of {CLUSTER} is complete")), "{stdout}");
    assert_eq!(listed(&stand, CLUSTER).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_terminal_shows_a_bar() -> Result<()> {
    let stand = configured().await?;
    if !stand.s3.can_fail("a_terminal_shows_a_bar") {
        return Ok(());
    }
    let gate = stand.s3.hold(Op::UploadPart.always());
    // util-linux's `script` gives the command a terminal.
    let line = format!("{} --nats {} backup {CLUSTER} --wait", binary("backstayctl")?.display(), stand.nats.url());
    let mut command = tokio::process::Command::from(bare_command(Path::new("script")));
    command.args(["-qec", &line, "/dev/null"]).env("TERM", "xterm").stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.kill_on_drop(true).spawn().context("failed to start script")?;
    let mut screen = child.stdout.take().context("its output is ours")?;
    let mut shown = String::new();
    // The store waits and everything is read by now: the bar stays as it is.
    while !(shown.contains("] ") && shown.contains("/s, ") && shown.contains(" left")) {
        let mut bytes = [0; 4096];
        let read = tokio::time::timeout(SOON, screen.read(&mut bytes)).await;
        let read = read.with_context(|| format!("no bar is shown:\n{shown:?}"))??;
        ensure!(read > 0, "it ended without a bar:\n{shown:?}");
        shown.push_str(&String::from_utf8_lossy(&bytes[..read]));
    }
    gate.open();
    screen.read_to_string(&mut shown).await.context("failed to read the rest")?;
    ensure!(child.wait().await?.success(), "{shown:?}");
    ensure!(shown.contains(&format!("backup of {CLUSTER} is complete: ")), "{shown:?}");
    Ok(())
}

/// The next line that `get --watch` prints.
async fn line(lines: &mut Lines<BufReader<ChildStdout>>) -> Result<String> {
    let line = tokio::time::timeout(SOON, lines.next_line()).await.context("nothing more is printed")?;
    line?.context("the watch has ended")
}

#[tokio::test]
async fn a_watch_prints_what_comes() -> Result<()> {
    let stand = configured().await?;
    let mut command = tokio::process::Command::from(bare_command(&binary("backstayctl")?));
    command.args(["--nats", &stand.nats.url(), "get", "etcdmanualbackup", "--watch"]);
    let mut watch = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().context("failed to start the watch")?;
    let mut lines = BufReader::new(watch.stdout.take().context("its output is ours")?).lines();
    let heading = line(&mut lines).await?;
    ensure!(heading.starts_with("*   NAMESPACE   TYPE   ID   VERSION   BACKUP AT"), "{heading}");
    for mark in ["+", "~"] {
        stand.ctl(&["backup", CLUSTER]).await?.ok()?;
        let change = line(&mut lines).await?;
        ensure!(change.starts_with(&format!("{mark}   ephemeral   EtcdManualBackup   {CLUSTER}   ")), "{change}");
    }
    Ok(())
}

#[tokio::test]
async fn a_template_comes_back_and_goes() -> Result<()> {
    let stand = start(stand().cluster(CLUSTER, 1)).await?;
    let terminal = Terminal::new(&stand)?;
    let machine = stand.cluster(CLUSTER).agents[0].machine;
    let template = format!(
        "kind: Cluster\nname: {CLUSTER}\nkubernetes:\n  version: v1.28.2\ntalos:\n  version: v1.5.5\nfeatures:\n  \
         backupConfiguration:\n    interval: 1h0m0s\n---\nkind: ControlPlane\nmachines:\n  - {machine}\n---\nkind: \
         Workers\nmachines:\n  - 27c16241-96bf-4f17-9579-ea3a6c4a3ca8\n  - b885f565-b64f-4c7a-a1ac-d2c8c2781373\n"
    );
    std::fs::write(terminal.folder().join("etcd-backup.yaml"), &template)?;
    let status = |expected: Option<i32>| {
        let terminal = &terminal;
        async move {
            let Output { status, stdout, stderr } =
                terminal.run("backstayctl cluster template -f etcd-backup.yaml status").await?;
            ensure!(status.code() == expected, "{status}\n{stdout}{stderr}");
            Ok(stdout)
        }
    };
    let before = status(Some(3)).await?;
    ensure!(before.contains(&format!("{CLUSTER}                          differs")), "{before}");
    assert_eq!(before.matches("   missing\n").count(), 5, "{before}");
    terminal.prints("backstayctl cluster template -f etcd-backup.yaml sync").await?;
    assert_eq!(status(Some(0)).await?.matches("   in sync\n").count(), 6);
    let exported = terminal.prints(&format!("backstayctl cluster template export -c {CLUSTER}")).await?;
    assert_eq!(exported, template);

    let gone = terminal.run("backstayctl cluster template -f etcd-backup.yaml delete").await?;
    assert_eq!(gone.stdout.lines().count(), 6, "{gone:?}");
    ensure!(gone.status.success(), "{gone:?}");
    eventually(SOON, || async {
        for kind in ["machineset", "machinesetnode"] {
            let left = resources(&stand, &[kind]).await?;
            ensure!(left.is_empty(), "left: {left:?}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_coordinator_that_hears_and_says_nothing_is_said() -> Result<()> {
    let stand = Stand::builder().cluster(CLUSTER, 1).idle().start().await?;
    let client = async_nats::connect(stand.nats.url()).await.context("failed to connect")?;
    let _deaf = client.subscribe("backstay.v1.api.>").await.context("failed to subscribe")?;
    client.flush().await.context("failed to flush")?;
    let expected = format!("Error: no coordinator answers on {} (no answer within 5 s)\n", stand.nats.url());
    for arguments in [&["status"][..], &["backup", CLUSTER, "--wait"], &["agents"], &["runs", CLUSTER]] {
        let Output { status, stdout, stderr } = stand.ctl(arguments).await?;
        assert_eq!(
            (status.code(), stdout.as_str(), stderr.as_str()),
            (Some(1), "", expected.as_str()),
            "{arguments:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_cluster_that_registered_itself_is_exported_as_a_template_that_holds() -> Result<()> {
    let stand = start(stand().cluster(CLUSTER, 1).local()).await?;
    let terminal = Terminal::new(&stand)?;
    let export = format!("backstayctl cluster template export --cluster {CLUSTER}");
    let exported = terminal.run(&export).await?;
    ensure!(exported.stderr.contains("this cluster was not created from a template"), "{exported:?}");
    let text = exported.ok()?;
    let machine = stand.cluster(CLUSTER).agents[0].machine.to_string();
    ensure!(text.contains(&machine) && !text.contains("version"), "{text}");
    std::fs::write(terminal.folder().join("exported.yaml"), &text)?;
    assert_eq!(terminal.prints("backstayctl cluster template validate -f exported.yaml").await?, "");
    terminal.prints("backstayctl cluster template sync -f exported.yaml").await?;
    assert_eq!(terminal.prints("backstayctl cluster template diff -f exported.yaml").await?, "");
    assert_eq!(terminal.prints(&export).await?, text);
    Ok(())
}
