//! Clocks that are wrong: the coordinator's, an agent's, that of `once`. They are told, stop nothing, storm nothing, and
//! no restore guesses which backup is the latest.

use anyhow::{Context, Result, ensure};
use backstay_protocol::machines;
use backstay_tests::daemon::Daemon;
use backstay_tests::{FakeClock, Output, Stand, eventually};

use crate::terminal::Terminal;
use crate::world::{
    CLUSTER, SOON, at_least, configured, leads, listed, manifest, now, resources, stand, start, status, succeeds,
};

const DAY: i64 = 86_400;
const YEAR: i64 = 365 * DAY;

fn looks_at(daemon: &mut Daemon, clock: &FakeClock) {
    for (name, value) in clock.variables() {
        daemon.set_variable(&name, &value);
    }
}

/// A stand whose coordinator looks at a clock that is so far ahead.
async fn ahead(seconds: i64) -> Result<(Stand, FakeClock)> {
    let clock = FakeClock::new()?;
    clock.set(seconds)?;
    let mut stand = stand().cluster(CLUSTER, 1).idle().start().await?;
    looks_at(&mut stand.coordinators[0].daemon, &clock);
    stand.start_daemons().await?;
    eventually(SOON, || async { resources(&stand, &["cluster", CLUSTER]).await.map(drop) }).await?;
    stand.configure_s3().await?;
    Ok((stand, clock))
}

fn every(seconds: i64) -> String {
    format!("{{interval: {{seconds: {seconds}, nanos: 0}}}}")
}

/// What `status` prints on both outputs; it must end with exit code 3.
async fn not_ok(stand: &Stand) -> Result<String> {
    let Output { status, stdout, stderr } = stand.ctl(&["status"]).await?;
    ensure!(status.code() == Some(3), "it ended with {status}:\n{stdout}{stderr}");
    Ok(format!("{stdout}{stderr}"))
}

/// What `status` prints once every cluster and every clock is ok.
async fn all_ok(stand: &Stand) -> Result<String> {
    eventually(SOON, || async { stand.ctl(&["status"]).await?.ok() }).await
}

/// An error that tells which backups may be the latest, and how each is chosen.
fn names_all(error: &str, snapshots: &[&str]) -> Result<()> {
    ensure!(error.contains("cannot determine which backup is the latest"), "{error}");
    for snapshot in snapshots {
        let line = error.lines().find(|line| line.trim_start().starts_with(&format!("--snapshot {snapshot}   ")));
        let line = line.with_context(|| format!("no line for {snapshot} in {error}"))?;
        let said = line.contains("revision ") && line.contains("etcd cluster ") && line.contains("stored 20");
        ensure!(said && !line.contains("unknown"), "{line}");
    }
    Ok(())
}

#[tokio::test]
async fn a_coordinator_whose_clock_ran_a_day_ahead_and_was_set_right() -> Result<()> {
    let (mut stand, clock) = ahead(DAY).await?;
    stand.configure_backups(CLUSTER, &every(3600)).await?;
    let first = at_least(&stand, CLUSTER, 1).await?;
    ensure!(first[0].seconds > now() + DAY - 600, "not named for tomorrow: {first:?}");
    succeeds(&stand, CLUSTER).await?;
    let told = eventually(SOON, || async {
        let told = not_ok(&stand).await?;
        let both = told.contains(" ahead of NATS's and ") && told.contains(" ahead of the store's");
        ensure!(both && (told.contains("24h0m") || told.contains("23h59m59s")), "{told}");
        Ok(told)
    });
    let told = told.await?;
    ensure!(told.contains(" clock ") && told.contains("check the clocks of the coordinator"), "{told}");
    ensure!(told.contains("Note: the clock of the coordinator's machine "), "{told}");
    let spec = resources(&stand, &["coordinatorstatus"]).await?[0]["spec"].clone();
    for field in ["natsoffsetms", "storeoffsetms"] {
        let off = spec[field].as_i64().context("it is known")?;
        ensure!((off - DAY * 1000).abs() < 30_000, "{spec}");
    }
    let warnings = stand.coordinators[0].daemon.log().matches("correct the one that is wrong").count();
    ensure!((1..=2).contains(&warnings), "told once, and once more with the store's: {warnings}");

    // It is set right while the coordinator is down: one backup, now and named for now, and no more.
    stand.cluster(CLUSTER).etcd.put_many("/later/", 10, 100).await?;
    stand.coordinators[0].daemon.kill9();
    clock.set(0)?;
    stand.coordinators[0].daemon.start_and_wait(SOON).await?;
    leads(&stand).await?;
    let both = at_least(&stand, CLUSTER, 2).await?;
    ensure!(both[0].seconds == first[0].seconds && both[1].seconds <= now() + 1, "{both:?}");
    succeeds(&stand, CLUSTER).await?;
    let shown = status(&stand, CLUSTER).await?["lastbackuptime"]["seconds"].as_i64();
    ensure!(shown <= Some(now() + 1), "{shown:?}");
    all_ok(&stand).await?;
    stand.ctl(&["backup", CLUSTER, "--wait"]).await?.ok()?;
    let three = listed(&stand, CLUSTER).await?;
    ensure!(three.len() == 3 && three[1].seconds <= now() + 1, "the one by hand is named for now: {three:?}");

    // The coordinator knows its own; the store alone does not.
    let proven = stand.ctl(&["verify", CLUSTER]).await?.ok()?;
    ensure!(proven.contains(&three[1].snapshot), "{proven}");
    let terminal = Terminal::new(&stand)?;
    let environment = stand.s3.environment();
    let key = stand.coordinators[0].folder.join("recovery.key").display().to_string();
    let restore = format!(
        "{environment} backstayctl restore --store s3://{} --identity {key} --data-dir data",
        stand.s3.bucket()
    );
    let error = terminal.refused(&format!("{restore} --snapshot latest")).await?;
    names_all(&error, &[&three[0].snapshot, &three[1].snapshot])?;
    ensure!(error.contains("in the future"), "{error}");
    terminal.run(&format!("{restore} --snapshot {}", three[1].snapshot)).await?.ok()?;

    // NATS lost its disk: nobody knows any more in which order they were made.
    stand.nats.wipe().await?;
    eventually(SOON, || async {
        let Output { status, stderr, .. } = stand.ctl(&["verify", CLUSTER]).await?;
        ensure!(status.code() == Some(1), "{status}: {stderr}");
        names_all(&stderr, &[&three[0].snapshot, &three[1].snapshot])
    })
    .await?;
    // And what is there counts: no further backup is due.
    stand.configure_backups(CLUSTER, &every(3600)).await?;
    assert_eq!(back_up_now(&stand).await?, 4, "the three, and the one that was asked for now");
    let newest = listed(&stand, CLUSTER).await?[1].clone();
    assert_eq!(manifest(&stand, &newest).await?["trigger"], "manual");
    let proven = stand.ctl(&["verify", CLUSTER]).await?.ok()?;
    ensure!(proven.contains(&newest.snapshot), "{proven}");
    Ok(())
}

/// One by hand; how many there are then.
async fn back_up_now(stand: &Stand) -> Result<usize> {
    eventually(SOON, || async { stand.ctl(&["backup", CLUSTER, "--wait"]).await?.ok() }).await?;
    Ok(listed(stand, CLUSTER).await?.len())
}

#[tokio::test]
async fn a_clock_that_jumps_by_years_brings_neither_silence_nor_a_storm() -> Result<()> {
    let (stand, clock) = ahead(0).await?;
    stand.configure_backups(CLUSTER, &every(3)).await?;
    let mut count = at_least(&stand, CLUSTER, 2).await?.len();
    for ahead in [DAY, -DAY, 20 * YEAR, -20 * YEAR, 3_600, 0] {
        clock.set(ahead)?;
        let listed = at_least(&stand, CLUSTER, count + 2).await;
        count = listed.with_context(|| format!("the clock is {ahead} s ahead"))?.len();
    }
    let quiet = "{interval: {seconds: 3600, nanos: 0}}";
    stand.configure_backups(CLUSTER, quiet).await?;
    all_ok(&stand).await?;
    // When they were really made, as the store has it: whole seconds, and a slot takes a moment.
    let mut made: Vec<i64> = Vec::new();
    let listed = listed(&stand, CLUSTER).await?;
    for backup in &listed {
        let head = stand.s3.client().head_object().bucket(stand.s3.bucket()).key(backup.key()).send().await?;
        made.push(head.last_modified().context("a time")?.secs());
    }
    made.sort_unstable();
    let span = made[made.len() - 1] - made[0];
    let most = span * 10 / 27 + 2;
    ensure!(made.len() as i64 <= most, "a storm: {} backups in {span} s, at {made:?}", made.len());
    let log = stand.coordinators[0].daemon.log();
    ensure!(log.contains("was in the future"), "it was set right while the coordinator ran: {log}");
    Ok(())
}

#[tokio::test]
async fn an_agent_s_clock_is_told_where_it_is_wrong_and_when_it_is_right_again() -> Result<()> {
    let clock = FakeClock::new()?;
    clock.set(-600)?;
    let mut stand = stand().cluster(CLUSTER, 1).idle().start().await?;
    looks_at(&mut stand.cluster_mut(CLUSTER).agents[0].daemon, &clock);
    stand.start_daemons().await?;
    eventually(SOON, || async { resources(&stand, &["cluster", CLUSTER]).await.map(drop) }).await?;
    stand.configure_s3().await?;
    stand.configure_backups(CLUSTER, &every(3600)).await?;
    at_least(&stand, CLUSTER, 1).await?;
    let machine = stand.cluster(CLUSTER).agents[0].machine;
    eventually(SOON, || async {
        let agent = resources(&stand, &["agent"]).await?[0]["spec"].clone();
        let name = |field: &str| agent[field].as_str().unwrap_or_default();
        let called = machines::called(name("member"), name("host"), &machine.to_string());
        let off = agent["clock"].as_str().context("no word of its clock")?;
        ensure!(off.starts_with("10m") || off.starts_with("9m59s"), "{agent}");
        ensure!(off.ends_with(" behind NATS's"), "{agent}");
        let told = not_ok(&stand).await?;
        ensure!(told.contains(&format!("Note: the clock of machine {called} of cluster {CLUSTER} is {off}")), "{told}");
        Ok(())
    })
    .await?;
    clock.set(0)?;
    all_ok(&stand).await?;
    let log = stand.coordinators[0].daemon.log();
    ensure!(log.contains("correct the clock of its machine") && log.contains("clock is right again"), "{log}");
    Ok(())
}

#[tokio::test]
async fn once_says_that_its_clock_is_off_and_latest_is_not_guessed() -> Result<()> {
    let stand = stand().cluster(CLUSTER, 1).idle().start().await?;
    let terminal = Terminal::new(&stand)?;
    terminal.silent("mkdir store").await?;
    let (etcd, clock) = (&stand.cluster(CLUSTER).etcd, FakeClock::new()?);
    let store = format!("file://{}", terminal.folder().join("store").display());
    let once = format!("backstay-agent once --cluster {CLUSTER} --etcd {} --store {store}", etcd.members[0].client_url);
    let variables: String = clock.variables().iter().map(|(name, value)| format!("{name}={value} ")).collect();
    let under = |ahead: i64| clock.set(ahead).map(|()| format!("{variables}{once}"));
    let named = |printed: &Output| -> Result<String> {
        let line = printed.stdout.lines().find_map(|line| line.strip_prefix("stored "));
        Ok(line.and_then(|line| line.rsplit('/').next()).context("no name")?.to_owned())
    };
    let right = terminal.run(&under(0)?).await?;
    ensure!(right.status.success() && !right.stderr.contains("clock"), "{right:?}");
    let right = named(&right)?;
    let restore = format!("backstayctl restore --store {store} --snapshot latest --data-dir");
    for (n, (ahead, said)) in [(DAY, "24h0m0s ahead of the store's"), (-2 * DAY, "48h0m")].into_iter().enumerate() {
        etcd.put_many(&format!("/{n}/"), 5, 10).await?;
        let off = terminal.run(&under(ahead)?).await?;
        ensure!(off.status.success(), "a warning is no error: {off:?}");
        let about = said.split(' ').next().unwrap_or_default();
        let near = off.stderr.contains(about) || off.stderr.contains("23h59m5") || off.stderr.contains("47h59m");
        ensure!(near && off.stderr.contains("correct the one that is wrong"), "{off:?}");
        let wrong = named(&off)?;
        let error = terminal.refused(&format!("{restore} data-{n}")).await?;
        names_all(&error, &[&wrong, &right])?;
        // The state that each holds can be chosen.
        terminal
            .run(&restore.replace("latest", &wrong).replace("--data-dir", &format!("--data-dir chosen-{n}")))
            .await?
            .ok()?;
        terminal.silent(&format!("rm -f store/*/{}* store/*/.*{}*", &wrong[..16], &wrong[..16])).await?;
    }
    terminal.run(&format!("{restore} data-right")).await?.ok()?;
    Ok(())
}

#[tokio::test]
async fn a_clock_that_is_right_is_told_of_nowhere() -> Result<()> {
    let stand = configured().await?;
    stand.configure_backups(CLUSTER, &every(3600)).await?;
    at_least(&stand, CLUSTER, 1).await?;
    eventually(SOON, || async {
        let spec = resources(&stand, &["coordinator"]).await?[0]["spec"].clone();
        ensure!(spec["natsoffsetms"].is_i64() && spec["storeoffsetms"].is_i64() && spec["clock"] == "", "{spec}");
        Ok(())
    })
    .await?;
    let printed = all_ok(&stand).await?;
    ensure!(!printed.contains("clock"), "{printed}");
    let agent = resources(&stand, &["agent"]).await?[0]["spec"].clone();
    ensure!(agent.get("clock").is_none(), "{agent}");
    ensure!(!stand.coordinators[0].daemon.log().contains("clock"), "{}", stand.coordinators[0].daemon.log());
    Ok(())
}

#[tokio::test]
async fn a_local_store_has_a_clock_too() -> Result<()> {
    let stand = start(stand().cluster(CLUSTER, 1).local()).await?;
    eventually(SOON, || async {
        let spec = resources(&stand, &["coordinator"]).await?[0]["spec"].clone();
        let off = spec["storeoffsetms"].as_i64().with_context(|| format!("{spec}"))?;
        ensure!(off.abs() < 30_000 && spec["clock"] == "", "{spec}");
        Ok(())
    })
    .await?;
    let left: Vec<_> = std::fs::read_dir(stand.local_path())?.flatten().map(|entry| entry.file_name()).collect();
    ensure!(!left.iter().any(|name| name.to_string_lossy().contains("clock")), "{left:?}");
    Ok(())
}
