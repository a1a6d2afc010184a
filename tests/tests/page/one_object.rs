//! One object that cannot be read, and one whose name no XML can carry: whatever else is in the bucket goes on.

use anyhow::{Context, Result, ensure};
use backstay_tests::{Fault, Op, StandBuilder, free_port};

use crate::terminal::Terminal;
use crate::world::{CLUSTER, at_least, back_up, configured, leads, listed, manifest, stand};

fn builder() -> StandBuilder {
    stand().cluster(CLUSTER, 1).idle()
}

#[tokio::test]
async fn a_manifest_that_answers_403_is_skipped_by_once_list_and_coordinator() -> Result<()> {
    let mut stand = builder().start().await?;
    if !stand.s3.can_fail("a_manifest_that_answers_403_is_skipped_by_once_list_and_coordinator") {
        return Ok(());
    }
    let terminal = Terminal::new(&stand)?;
    let (environment, bucket) = (stand.s3.environment(), stand.s3.bucket().to_owned());
    let etcd = stand.cluster(CLUSTER).etcd.members[0].client_url.clone();
    let once =
        |name: &str| format!("{environment} backstay-agent once --cluster {name} --etcd {etcd} --store s3://{bucket}");
    terminal.run(&once("old")).await?.ok()?;
    let objects = stand.s3.objects().await?;
    let manifest = objects.keys().find(|key| key.ends_with(".manifest.json")).context("no manifest")?.clone();
    let folder = manifest.split('/').next().context("no folder")?;
    for strange in ["\u{1}", "a\u{1f}b+%20", &format!("{folder}/\u{8}")] {
        std::fs::write(stand.s3.path_of(strange), "not ours").context("planted")?;
    }
    stand.s3.inject(Op::GetObject.always().key(&manifest), Fault::Status(403));

    // The first backup of another name, beside a cluster of which nothing can be read.
    let output = terminal.run(&once("new")).await?;
    ensure!(output.status.success() && output.stderr.contains(&manifest), "{output:?}");
    let output = terminal.run(&format!("{environment} backstayctl list --store s3://{bucket}")).await?;
    ensure!(output.status.success(), "{output:?}");
    ensure!(output.stdout.lines().count() == 2 && output.stdout.contains("new"), "{output:?}");
    ensure!(output.stderr.contains("Note: skipped: ") && output.stderr.contains(&manifest), "{output:?}");

    // Nor does it keep a coordinator from a new cluster's first backup.
    stand.start_daemons().await?;
    leads(&stand).await?;
    stand.configure_s3().await?;
    stand.configure_backups(CLUSTER, "{ enabled: true, interval: { seconds: 3600, nanos: 0 } }").await?;
    at_least(&stand, CLUSTER, 1).await?;
    ensure!(!listed(&stand, CLUSTER).await?.is_empty());
    let shown = terminal.prints("backstayctl get coordinatorstatus -o yaml").await?;
    ensure!(shown.contains("addressing path (auto)") && shown.contains("checksum none (auto)"), "{shown}");
    Ok(())
}

#[tokio::test]
async fn a_key_file_that_answers_403_is_made_up_for_by_the_copy_in_the_kv() -> Result<()> {
    let stand = configured().await?;
    if !stand.s3.can_fail("a_key_file_that_answers_403_is_made_up_for_by_the_copy_in_the_kv") {
        return Ok(());
    }
    let first = back_up(&stand, CLUSTER).await?.remove(0);
    let refused = stand.s3.inject(Op::GetObject.always().key("key.age"), Fault::Status(403));
    let second = back_up(&stand, CLUSTER).await?.remove(0);
    ensure!(refused.fired() > 0 && second.snapshot != first.snapshot, "{second:?}");
    let recipients = |of: &serde_json::Value| of["seal"]["recipients"].clone();
    let (before, after) = (manifest(&stand, &first).await?, manifest(&stand, &second).await?);
    assert_eq!(recipients(&after), recipients(&before), "no other key was made");
    // To open one takes the same copy.
    for backup in [&first, &second] {
        stand.ctl(&["verify", CLUSTER, "--snapshot", &backup.snapshot]).await?.ok()?;
    }
    let log = stand.coordinators[0].daemon.log();
    ensure!(log.contains("using the copy in the KV") && log.contains("key.age"), "{log}");
    Ok(())
}

#[tokio::test]
async fn where_everything_answers_403_the_whole_is_an_error() -> Result<()> {
    let stand = builder().start().await?;
    if !stand.s3.can_fail("where_everything_answers_403_the_whole_is_an_error") {
        return Ok(());
    }
    let terminal = Terminal::new(&stand)?;
    let (environment, bucket) = (stand.s3.environment(), stand.s3.bucket().to_owned());
    let etcd = stand.cluster(CLUSTER).etcd.members[0].client_url.clone();
    let once = format!("{environment} backstay-agent once --cluster old --etcd {etcd} --store s3://{bucket}");
    let list = format!("{environment} backstayctl list --store s3://{bucket}");
    terminal.run(&once).await?.ok()?;
    stand.s3.inject(Op::GetObject.always(), Fault::Status(403));
    for command in [&once, &list] {
        let error = terminal.refused(command).await?;
        ensure!(error.contains("AccessDenied") && error.contains(".manifest.json"), "{error}");
    }
    stand.s3.clear_faults();
    stand.s3.inject(Op::ListObjects.always(), Fault::Status(403));
    for command in [&once, &list] {
        let error = terminal.refused(command).await?;
        ensure!(error.contains("failed to list objects") && error.contains("AccessDenied"), "{error}");
    }
    Ok(())
}

#[tokio::test]
async fn where_nobody_listens_every_command_says_so() -> Result<()> {
    let stand = builder().start().await?;
    let (terminal, nobody) = (Terminal::new(&stand)?, free_port()?);
    let etcd = stand.cluster(CLUSTER).etcd.members[0].client_url.clone();
    let environment = format!(
        "AWS_ENDPOINT_URL=http://{} AWS_ACCESS_KEY_ID=access AWS_SECRET_ACCESS_KEY=secret123",
        nobody.address()
    );
    for command in [
        format!("backstay-agent once --cluster c --etcd {etcd} --store s3://mybucket"),
        "backstayctl list --store s3://mybucket".to_owned(),
        "backstayctl restore --store s3://mybucket --snapshot latest --data-dir data".to_owned(),
    ] {
        let error = terminal.refused(&format!("{environment} {command}")).await?;
        ensure!(error.contains("Connection refused") && error.contains("nothing is listening there"), "{error}");
        ensure!(error.contains("(endpoint http://127.0.0.1:"), "{error}");
        let broken = environment.replace("secret123", "$'secret123\\n'");
        let error = terminal.refused(&format!("{broken} {command}")).await?;
        ensure!(
            error.contains("the secret access key contains a line break") && !error.contains("secret123"),
            "{error}"
        );
    }
    Ok(())
}
