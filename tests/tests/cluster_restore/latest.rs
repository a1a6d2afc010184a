//! Which backup a cluster is restored from where somebody asks for the latest, or for the latest before a time; and a
//! restore that is asked for by what was told of an earlier one.

use anyhow::{Context, Result, ensure};
use backstay_protocol::{SnapshotName, Timestamp};
use serde_json::Value;

use super::LONG;
use super::ground::{CLUSTER, Ground, restorable};
use super::rig::once_heard;

const DAY: i64 = 86_400;

fn seconds(snapshot: &str) -> Result<i64> {
    Ok(snapshot.parse::<SnapshotName>()?.unix_seconds())
}

/// The names of the cluster's backups, newest first.
async fn listed(ground: &Ground) -> Result<Vec<String>> {
    let listed = ground.get(&["etcdbackup", "--selector", &format!("omni.sidero.dev/cluster={CLUSTER}")]).await?;
    listed.iter().map(|backup| Ok(backup["spec"]["snapshot"].as_str().context("no name")?.to_owned())).collect()
}

/// As if somebody whose clock runs a day ahead had taken a backup after more writes.
async fn plant_from_tomorrow(ground: &Ground, real: &str) -> Result<String> {
    let uuid = ground.uuid(CLUSTER).await?;
    let path =
        |snapshot: &str, ending: &str| ground.s3.path_of(&format!("{uuid}/{}", snapshot.replace(".snapshot", ending)));
    let planted = SnapshotName::from_unix_seconds(seconds(real)? + DAY)?.to_string();
    let mut manifest: Value = serde_json::from_slice(&std::fs::read(path(real, ".manifest.json"))?)?;
    let revision = manifest["origin"]["revision"].as_i64().context("no revision")?;
    (manifest["snapshot"], manifest["trigger"]) = (planted.clone().into(), "once".into());
    manifest["origin"]["revision"] = (revision + 1_000).into();
    std::fs::copy(path(real, ".snapshot"), path(&planted, ".snapshot"))?;
    std::fs::write(path(&planted, ".manifest.json"), manifest.to_string())?;
    Ok(planted)
}

#[tokio::test]
async fn the_latest_is_not_guessed_and_a_time_says_which_one_is_meant() -> Result<()> {
    let mut ground = Ground::start(restorable(1)).await?;
    ground.must_back_up(CLUSTER).await?;
    let own = listed(&ground).await?;
    ensure!(own.len() == 2 && own[1] == ground.snapshot, "{own:?}");
    let planted = plant_from_tomorrow(&ground, &own[0]).await?;

    // Somebody else's, with a higher revision and a name from the future: which one is the latest?
    let refused = ground.ctl(&["restore", CLUSTER, "--snapshot", "latest", "--yes"]).await?;
    ensure!(refused.status.code() == Some(1), "{refused:?}");
    ensure!(refused.stderr.contains("cannot determine which backup is the latest"), "{refused:?}");
    for snapshot in [&planted, &own[0]] {
        let line = refused.stderr.lines().find(|line| line.trim_start().starts_with(&format!("--snapshot {snapshot}")));
        let line = line.with_context(|| format!("no line for {snapshot}: {refused:?}"))?;
        ensure!(line.contains("revision ") && line.contains("etcd cluster "), "{line}");
    }
    // Two answers to one question.
    let restores = |spec: &str| format!("metadata: {{type: Restores.backstay.dev, id: {CLUSTER}}}\nspec: {{{spec}}}\n");
    let both = format!("snapshot: {}, before: {{seconds: {}, nanos: 0}}", own[0], seconds(&own[0])?);
    let refused_both = ground.apply(&restores(&both)).await?;
    ensure!(refused_both.stderr.contains("omit one of them"), "{refused_both:?}");
    let time = Timestamp::from_seconds(seconds(&own[0])? - 1).rfc3339();
    let usage = ground.ctl(&["restore", CLUSTER, "--snapshot", &own[0], "--before", &time]).await?;
    ensure!(usage.status.code() == Some(2) && usage.stderr.contains("cannot be used with"), "{usage:?}");
    let early = ground.ctl(&["restore", CLUSTER, "--before", "2001-01-01T00:00:00Z", "--yes"]).await?;
    ensure!(early.stderr.contains("has no backup taken at or before 2001-01-01T00:00:00Z"), "{early:?}");
    ensure!(ground.spec().await?.is_null(), "a restore was begun");
    ground.is_as_before().await?;

    // A second before the newer one's time the older one is the latest.
    let restored = ground.ctl(&["restore", CLUSTER, "--before", &time, "--yes"]).await?.ok()?;
    ensure!(restored.contains(&format!("Backup:    {}", ground.snapshot)), "{restored}");
    ground.is_restored().await
}

/// The field of a resource as `get -o yaml` prints it, without that line.
fn without(yaml: &str, field: &str) -> Result<String> {
    let is_field = |line: &&str| line.starts_with(&format!("  {field}: "));
    ensure!(yaml.lines().filter(is_field).count() == 1, "{yaml}");
    Ok(yaml.lines().filter(|line| !is_field(line)).map(|line| format!("{line}\n")).collect())
}

#[tokio::test]
async fn what_get_prints_of_a_restore_can_be_applied_again() -> Result<()> {
    let ground = Ground::start(restorable(1)).await?;
    ground.restore(&[]).await?.ok()?;
    let first = ground.spec().await?;
    ground.write_later().await?;
    let yaml = ground.ctl(&["get", "restore", CLUSTER, "-o", "yaml"]).await?.ok()?;

    // As it is, it is the request whose answer was lost; with another backup it is somebody's mistake.
    ground.apply(&yaml).await?.ok()?;
    let other = SnapshotName::from_unix_seconds(seconds(&ground.snapshot)? + 7)?.to_string();
    let refused = ground.apply(&yaml.replace(&ground.snapshot, &other)).await?;
    ensure!(refused.stderr.contains("omit the field \"restore\""), "{refused:?}");
    ensure!(ground.spec().await?["restore"] == first["restore"], "another restore was started");

    // Without its id it asks anew, and the old data of then is not in the way of that of now.
    once_heard(LONG, || async { ground.apply(&without(&yaml, "restore")?).await }).await?.ok()?;
    ensure!(ground.ended().await? == "restored");
    let second = ground.spec().await?;
    ensure!(second["restore"] != first["restore"] && second["snapshot"] == first["snapshot"], "{second}");
    let aside = |spec: &Value| spec["machines"][0]["aside"].as_str().map(str::to_owned).context("no machine");
    let (first, second) = (aside(&first)?, aside(&second)?);
    ensure!(first != second, "both are {first}");
    ensure!([&first, &second].iter().all(|folder| std::path::Path::new(folder).is_dir()), "{first} {second}");
    ground.is_restored().await
}
