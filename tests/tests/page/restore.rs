//! `backstayctl restore --store` and `list --store`: with the bucket and a key alone, and what is refused.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use backstay_tests::{Etcd, EtcdOptions, Op, Output, Process, Stand, eventually, loader};
use etcd_client::GetOptions;

use crate::terminal::{Terminal, path};
use crate::world::{CLUSTER, back_up, configured, objects, stand};

const LOAD_BYTES: u64 = 12 << 20;
const SOON: Duration = Duration::from_secs(60);

/// The lines that a restore prints, without its progress.
async fn restores(terminal: &Terminal, command: &str) -> Result<String> {
    let output = terminal.run(command).await?;
    ensure!(output.status.success(), "`{command}` ended with {}\n{}{}", output.status, output.stdout, output.stderr);
    Ok(output.stdout)
}

/// The error of a restore that must fail, and must leave nothing in `data`.
async fn fails(terminal: &Terminal, command: &str) -> Result<String> {
    let output = terminal.run(command).await?;
    ensure!(output.status.code() == Some(1) && output.stdout.is_empty(), "`{command}` ended with {}", output.status);
    let left = terminal.prints("ls -A . | grep data || true").await?;
    ensure!(left.is_empty(), "`{command}` left {left}");
    let error = output.stderr.lines().last().unwrap_or_default();
    Ok(error.strip_prefix("Error: ").with_context(|| format!("no error: {}", output.stderr))?.to_owned())
}

async fn count(etcd: &Etcd, prefix: &str) -> Result<i64> {
    let options = GetOptions::new().with_prefix().with_count_only();
    Ok(etcd.client().await?.get(prefix, Some(options)).await?.count())
}

#[tokio::test]
async fn the_bucket_and_the_recovery_key_are_enough() -> Result<()> {
    let mut stand = configured().await?;
    let terminal = Terminal::new(&stand)?;
    let loaded = loader::load(&stand.cluster(CLUSTER).etcd.members[0].client_url, LOAD_BYTES, 7).await?;
    back_up(&stand, CLUSTER).await?;
    stand.cluster(CLUSTER).etcd.put_many("/later/", 10, 100).await?;
    let backups = back_up(&stand, CLUSTER).await?;
    // Nobody is left but the bucket.
    stand.coordinators[0].daemon.kill9();
    let cluster = stand.cluster_mut(CLUSTER);
    cluster.agents.iter_mut().for_each(|agent| agent.daemon.kill9());
    cluster.etcd.members[0].kill();
    stand.nats.stop();

    let (environment, store) = (stand.s3.environment(), format!("s3://{}", stand.s3.bucket()));
    let table = terminal.prints(&format!("{environment} backstayctl list --store {store} -o wide")).await?;
    let rows: Vec<&str> = table.lines().skip(1).collect();
    assert_eq!(rows.len(), 2, "{table}");
    for (row, backup) in rows.iter().zip(&backups) {
        ensure!(row.starts_with(CLUSTER) && row.contains(&backup.snapshot) && row.contains(&backup.uuid), "{table}");
    }
    let json = terminal.prints(&format!("{environment} backstayctl list --store {store} -o json")).await?;
    assert_eq!(objects(&json)?[0]["snapshot"], backups[0].snapshot);

    let key = stand.coordinators[0].folder.join("recovery.key").display().to_string();
    let base = format!("{environment} backstayctl restore --store {store} --identity {key}");
    // As one member, of the newest.
    let mut one = Etcd::prepare(EtcdOptions::default())?;
    let member = |etcd: &Etcd, index: usize| {
        let (dir, name) = (etcd.members[index].data_dir.display(), &etcd.members[index].name);
        format!("--data-dir {dir} --name {name} --initial-cluster {}", etcd.initial_cluster())
    };
    let said = restores(&terminal, &format!("{base} --snapshot latest {}", member(&one, 0))).await?;
    ensure!(said.contains(&format!("from       {} of {CLUSTER}", backups[0].snapshot)), "{said}");
    one.run().await?;
    assert_eq!((count(&one, "/registry/").await?, count(&one, "/later/").await?), (loaded.objects as i64, 10));

    // As three, of the older one by its name.
    let mut three = Etcd::prepare(EtcdOptions { members: 3, ..EtcdOptions::default() })?;
    let (uuid, older) = (&backups[1].uuid, &backups[1].snapshot);
    for index in 0..3 {
        let line = format!("{base} --cluster-uuid {uuid} --snapshot {older} {}", member(&three, index));
        restores(&terminal, &format!("{line} --defragment")).await?;
    }
    three.run().await?;
    assert_eq!((count(&three, "/registry/").await?, count(&three, "/later/").await?), (loaded.objects as i64, 0));
    assert_eq!(three.client().await?.member_list().await?.members().len(), 3);
    Ok(())
}

/// A folder with one backup by `once`, and a terminal beside it.
async fn one_backup() -> Result<(Stand, Terminal, String)> {
    let stand = stand().cluster(CLUSTER, 1).idle().start().await?;
    let terminal = Terminal::new(&stand)?;
    terminal.silent("age-keygen -o own.key 2> own.log && age-keygen -o other.key 2> own.log && mkdir store").await?;
    let etcd = &stand.cluster(CLUSTER).etcd;
    etcd.put_many("/a/", 300, 2000).await?;
    let store = format!("file://{}", terminal.folder().join("store").display());
    let once = format!("backstay-agent once --cluster {CLUSTER} --etcd {} --store {store}", etcd.members[0].client_url);
    terminal.prints(&format!("{once} --recipient $(age-keygen -y own.key)")).await?;
    Ok((stand, terminal, store))
}

#[tokio::test]
async fn a_dry_run_checks_what_can_be_checked_and_touches_nothing() -> Result<()> {
    let (_stand, terminal, store) = one_backup().await?;
    let base = format!("backstayctl restore --store {store} --snapshot latest --identity own.key --dry-run");
    let Output { status, stdout, stderr } = terminal.run(&format!("{base} --data-dir deep/data --name m1")).await?;
    ensure!(status.success() && stderr.ends_with("Nothing was changed (dry run).\n"), "{status} {stdout}{stderr}");
    for part in
        ["would restore  ", &format!(" of {CLUSTER} (UUID "), "into           deep/data (new; ", "member         m1 ("]
    {
        ensure!(stdout.contains(part), "no {part:?} in {stdout}");
    }
    let base_without = base.replace(" --identity own.key", "");
    terminal.silent("mkdir full && touch full/x").await?;
    for (command, says) in [
        (format!("{base_without} --data-dir data"), "pass the recovery key"),
        (format!("{base} --data-dir full"), "cannot restore into full: full is not empty"),
        (
            format!("{base} --data-dir data --name a --initial-cluster b=http://b:1"),
            "not one of the new cluster's members: b",
        ),
    ] {
        let error = fails(&terminal, &command).await?;
        ensure!(error.contains(says), "`{command}`: {error}");
    }
    // The manifest is there; what it is of is cut short, and then gone.
    let object = terminal.prints("ls store/*/*.snapshot").await?.trim().to_owned();
    let name = object.rsplit('/').next().context("a name")?;
    let named = base.replace("latest", name);
    for (damage, says) in [("truncate -s 100", "has 100 bytes in"), ("rm", "but not the backup itself")] {
        terminal.silent(&format!("{damage} {object}")).await?;
        let error = fails(&terminal, &format!("{named} --data-dir data")).await?;
        ensure!(error.contains(says), "{damage}: {error}");
    }
    assert_eq!(terminal.prints("ls -d deep data 2>/dev/null || true").await?, "");
    Ok(())
}

#[tokio::test]
async fn what_is_refused_names_the_thing_the_reason_and_the_next_step() -> Result<()> {
    let (_stand, terminal, store) = one_backup().await?;
    let base = format!("backstayctl restore --store {store} --data-dir data --snapshot");
    let own = "--identity own.key";
    let cases = [
        (format!("{base} latest"), "pass the recovery key or the cluster's own key with --identity FILE"),
        (format!("{base} latest --identity other.key"), "is not one of the backup's recipients"),
        (format!("{base} latest --identity absent.key"), "failed to read the identity file absent.key: No such file"),
        (format!("{base} FFFFFFFF00000000.snapshot {own}"), "backstayctl list --store"),
        (format!("{base} nonsense {own}"), "invalid snapshot name"),
        (format!("{base} lastest {own}"), "did you mean latest?"),
        (format!("{base} latest {own} --cluster prodd"), "contains no backup of a cluster named prodd"),
        (
            format!("{} --before 2001-01-01T00:00:00Z {own}", base.replace(" --snapshot", "")),
            "taken at or before 2001-01-01T00:00:00Z",
        ),
        (
            format!("{base} latest {own} --name a --initial-cluster b=http://b:1"),
            "not one of the new cluster's members: b",
        ),
        (format!("{base} latest {own} --initial-advertise-peer-urls b:1"), "must begin with http"),
        (
            format!("{base} latest {own} --cluster-uuid 7d3a5a4c-9a0d-4c39-9b3c-3a2f1d9c2f10"),
            "contains no backup of cluster",
        ),
        (format!("{} latest {own}", base.replace("/store ", "/nothing ")), "nothing"),
    ];
    for (command, reason) in cases {
        let error = fails(&terminal, &command).await?;
        ensure!(error.contains(reason), "`{command}` says {error}");
    }
    terminal.silent("mkdir full && touch full/file").await?;
    let full =
        terminal.refused(&format!("{} latest {own} 2> >(tail -1 >&2)", base.replace(" data ", " full "))).await?;
    ensure!(full.contains("full is not empty: restore into a new directory"), "{full}");
    let restored = restores(&terminal, &format!("{base} latest {own}")).await?;
    ensure!(restored.starts_with("restored   data\n"), "{restored}");
    Ok(())
}

#[tokio::test]
async fn a_backup_is_chosen_by_the_cluster_s_name_and_a_time_and_a_slip_is_noticed() -> Result<()> {
    let (stand, terminal, store) = one_backup().await?;
    let etcd = &stand.cluster(CLUSTER).etcd;
    let once = format!(
        "backstay-agent once --etcd {} --store {store} --recipient $(age-keygen -y own.key)",
        etcd.members[0].client_url
    );
    etcd.put_many("/b/", 10, 100).await?;
    terminal.prints(&format!("{once} --cluster {CLUSTER}")).await?;
    terminal.prints(&format!("{once} --cluster other")).await?;
    let json = terminal.prints(&format!("backstayctl list --store {store} --cluster {CLUSTER} -o json")).await?;
    let listed = objects(&json)?;
    ensure!(listed.len() == 2 && listed.iter().all(|backup| backup["cluster"] == CLUSTER), "{json}");
    let text = |at: usize, key: &str| listed[at][key].as_str().unwrap_or_default().to_owned();
    let [newer, older] = [text(0, "snapshot"), text(1, "snapshot")];

    let base = format!("backstayctl restore --store {store} --identity own.key --data-dir data");
    let several = fails(&terminal, &format!("{base} --snapshot latest")).await?;
    let named = format!("{CLUSTER} ({})", text(0, "clusteruuid"));
    ensure!(several.contains("choose one with --cluster NAME") && several.contains(&named), "{several}");
    let unknown = fails(&terminal, &format!("{base} --snapshot latest --cluster {CLUSTER}x")).await?;
    ensure!(unknown.contains(&format!("did you mean {CLUSTER}?")) && unknown.contains("other"), "{unknown}");
    let of = format!("{base} --cluster {CLUSTER}");
    let digits = older.trim_end_matches(".snapshot");
    for slip in [&digits[1..], &format!("{digits}0"), &format!("{}O", &digits[..15])] {
        let error = fails(&terminal, &format!("{of} --snapshot {slip}")).await?;
        ensure!(error.contains(": did you mean FFFFFFFF"), "{slip}: {error}");
    }

    let time = (u64::from_str_radix(digits, 16)? as i64).wrapping_neg();
    for (which, snapshot) in [
        ("--snapshot latest".to_owned(), &newer),
        (format!("--before $(date -u -d @{time} +%FT%TZ)"), &older),
        (format!("--snapshot {digits}"), &older),
        (format!("--snapshot {}", older.to_lowercase()), &older),
    ] {
        let said = restores(&terminal, &format!("{of} {which}")).await?;
        ensure!(said.contains(&format!("from       {snapshot} of {CLUSTER}")), "{which}: {said}");
        terminal.silent("rm -r data").await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_restore_ends_with_what_to_do_next() -> Result<()> {
    let (_stand, terminal, store) = one_backup().await?;
    let base = format!("backstayctl restore --store {store} --identity own.key --snapshot latest");
    let said = restores(&terminal, &format!("{base} --data-dir 'my data' --name m1")).await?;
    let (_, next) = said.split_once("\nNext steps:\n").with_context(|| format!("no next steps: {said}"))?;
    let start = format!("--name m1 --data-dir '{}/my data'", terminal.folder().display());
    for part in [start.as_str(), "chown -R etcd: ", "systemctl restart kubelet", "--new-cluster-id"] {
        ensure!(next.contains(part), "{part}: {next}");
    }
    Ok(())
}

/// The commands of README's first block behind a text, each in one line and without what is said of it.
fn readme(behind: &str) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md"))?;
    let (_, rest) = text.split_once(behind).with_context(|| format!("no {behind:?} in README.md"))?;
    let (_, block) = rest.split_once("```console\n").context("no block behind it")?;
    let (block, _) = block.split_once("```").context("the block has no end")?;
    let joined = block.replace("\\\n", " ");
    let command = |line: &str| Some(line.strip_prefix("$ ")?.split(" # ").next()?.trim_end().to_owned());
    Ok(joined.lines().filter_map(command).collect())
}

/// The same with one of its examples in place of another.
fn with(line: &str, example: &str, ours: &str) -> Result<String> {
    ensure!(line.contains(example), "no {example} in `{line}`");
    Ok(line.replace(example, ours))
}

#[tokio::test]
async fn the_lines_of_the_readme_restore_a_cluster_from_the_store_alone() -> Result<()> {
    let (mut stand, terminal, store) = one_backup().await?;
    stand.cluster_mut(CLUSTER).etcd.members[0].kill();
    let lines = readme("From the store and the recovery key")?;
    let [list, restore] = lines.as_slice() else { anyhow::bail!("not two lines: {lines:?}") };
    let table = terminal.prints(&with(list, "s3://etcd-backups", &store)?).await?;
    ensure!(table.lines().nth(1).is_some_and(|row| row.starts_with(CLUSTER)), "no backup: {table}");

    // On each member's machine with its own name; names and URLs are those of the etcds that are started here.
    let mut etcd = Etcd::prepare(EtcdOptions { members: 3, ..EtcdOptions::default() })?;
    let line = with(restore, "s3://etcd-backups", &store)?;
    let line = with(&line, "--cluster prod", &format!("--cluster {CLUSTER}"))?;
    let line = with(&line, "recovery.key", "own.key")?;
    let members = "m1=https://10.0.0.1:2380,m2=https://10.0.0.2:2380,m3=https://10.0.0.3:2380";
    let line = with(&line, members, &etcd.initial_cluster())?;
    for member in &etcd.members {
        let line = with(&line, "--name m1", &format!("--name {}", member.name))?;
        restores(&terminal, &with(&line, "/var/lib/etcd", &member.data_dir.display().to_string())?).await?;
    }
    etcd.run().await?;
    assert_eq!(count(&etcd, "/a/").await?, 300);
    assert_eq!(etcd.client().await?.member_list().await?.members().len(), 3);
    Ok(())
}

/// The one sealed object of the store.
fn object(terminal: &Terminal) -> Result<PathBuf> {
    for cluster in std::fs::read_dir(terminal.folder().join("store"))? {
        for file in std::fs::read_dir(cluster?.path())? {
            let path = file?.path();
            if path.extension().is_some_and(|extension| extension == "snapshot") {
                return Ok(path);
            }
        }
    }
    anyhow::bail!("the store holds no backup")
}

#[tokio::test]
async fn a_damaged_or_cut_backup_leaves_nothing_behind() -> Result<()> {
    let (_stand, terminal, store) = one_backup().await?;
    let object = object(&terminal)?;
    let good = std::fs::read(&object)?;
    let command = format!("backstayctl restore --store {store} --data-dir data --snapshot latest --identity own.key");
    let mut writable = std::fs::metadata(&object)?.permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut writable, 0o600);
    std::fs::set_permissions(&object, writable)?;
    for at in [0, 100, good.len() / 3, good.len() - 1] {
        let mut damaged = good.clone();
        damaged[at] ^= 4;
        std::fs::write(&object, damaged)?;
        let error = fails(&terminal, &command).await?;
        ensure!(error.contains("cannot be decrypted") && error.contains("nothing was written there"), "{at}: {error}");
    }
    for length in [0, 1, good.len() / 2, good.len() - 1] {
        std::fs::write(&object, &good[..length])?;
        let error = fails(&terminal, &command).await?;
        ensure!(error.contains(&format!("the sealed object has {length} bytes")), "{length}: {error}");
    }
    std::fs::write(&object, &good)?;
    restores(&terminal, &command).await?;
    Ok(())
}

#[tokio::test]
async fn an_interrupted_restore_leaves_nothing_and_the_next_one_goes_well() -> Result<()> {
    let stand = configured().await?;
    let terminal = Terminal::new(&stand)?;
    if !stand.s3.can_fail("an_interrupted_restore_leaves_nothing_and_the_next_one_goes_well") {
        return Ok(());
    }
    loader::load(&stand.cluster(CLUSTER).etcd.members[0].client_url, LOAD_BYTES, 7).await?;
    let backups = back_up(&stand, CLUSTER).await?;
    let key = stand.coordinators[0].folder.join("recovery.key").display().to_string();
    let restore = format!(
        "{} exec backstayctl restore --store s3://{} --identity {key} --snapshot {} --data-dir data",
        stand.s3.environment(),
        stand.s3.bucket(),
        backups[0].snapshot
    );
    for signal in ["TERM", "INT", "KILL"] {
        // The object itself never comes.
        let gate = stand.s3.hold(Op::GetObject.always().key(&backups[0].key()));
        let mut command = std::process::Command::new("bash");
        command.args(["-c", &restore]).current_dir(terminal.folder());
        command.env("PATH", path()?);
        let mut process = Process::spawn("restore", command, &terminal.folder().join("restore.log"))?;
        let made = terminal.folder().join(".data.backstay-restore/member");
        eventually(SOON, || async {
            ensure!(made.is_dir(), "not begun");
            Ok(())
        })
        .await?;
        terminal.silent(&format!("kill -{signal} {}", process.id())).await?;
        let status = process.wait(SOON).await?;
        if signal == "KILL" {
            // Nobody was there to remove it: the next restore does.
            ensure!(made.is_dir());
        } else {
            assert_eq!(status.code(), Some(1), "{}", process.log());
            ensure!(process.log().contains("interrupted: nothing was restored"), "{}", process.log());
            ensure!(terminal.prints("ls -A . | grep data || true").await?.is_empty());
        }
        gate.open();
    }
    restores(&terminal, &restore.replace("exec ", "")).await?;
    assert_eq!(terminal.prints("ls -A . | grep data").await?.trim(), "data");
    Ok(())
}
