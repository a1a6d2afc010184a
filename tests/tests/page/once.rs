//! `backstay-agent once`: one backup without NATS or coordinator, to a folder and to a bucket.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use backstay_tests::daemon::{bare_command, binary};
use backstay_tests::{Op, Process, Proxy, Stand, Wire, eventually};

use crate::terminal::{Terminal, snapshot_tool};
use crate::world::{CLUSTER, SOON, at_least, only_whole_backups, stand, start};

/// SIGTERM is to end it within 10 s; a busy machine may take longer to notice.
const STOP: Duration = Duration::from_secs(30);

/// A stand of which only etcd and S3 are used.
async fn parts() -> Result<(Stand, Terminal, String)> {
    let stand = stand().cluster(CLUSTER, 1).idle().start().await?;
    let terminal = Terminal::new(&stand)?;
    let endpoint = stand.cluster(CLUSTER).etcd.members[0].client_url.clone();
    terminal.silent("age-keygen -o own.key 2> own.log").await?;
    Ok((stand, terminal, endpoint))
}

/// What `once` says under one heading.
fn said<'a>(printed: &'a str, heading: &str) -> Result<&'a str> {
    let line = printed.lines().find_map(|line| line.strip_prefix(heading));
    line.map(str::trim).with_context(|| format!("it does not say {heading}:\n{printed}"))
}

#[tokio::test]
async fn to_a_folder_twice_under_one_uuid() -> Result<()> {
    let (_stand, terminal, etcd) = parts().await?;
    terminal.silent("mkdir store").await?;
    let store = terminal.folder().join("store");
    let recipient = terminal.prints("age-keygen -y own.key").await?;
    let once = format!(
        "backstay-agent once --cluster {CLUSTER} --etcd {etcd} --store file://{} --recipient {}",
        store.display(),
        recipient.trim()
    );
    let first = terminal.prints(&once).await?;
    ensure!(said(&first, "cluster ")?.contains("new: the first backup of this name in the store"), "{first}");
    let second = terminal.prints(&once).await?;
    ensure!(!said(&second, "cluster ")?.contains("new"), "{second}");
    let (first, second) = (said(&first, "stored ")?, said(&second, "stored ")?);
    let [first, second] = [first, second].map(|url| PathBuf::from(url.trim_start_matches("file://")));
    ensure!(first != second && first.parent() == second.parent(), "{} and {}", first.display(), second.display());
    for file in [&first, &second] {
        terminal.silent(&format!("age -d -i own.key {} | zstd -d -q > once.db", file.display())).await?;
        terminal.prints(&format!("{} snapshot status once.db", snapshot_tool()?)).await?;
    }
    let visible = terminal.prints("find store -type f -not -name '.*' | wc -l").await?;
    assert_eq!(visible.trim(), "5", "two backups and their manifests, and the object of the name");
    Ok(())
}

#[tokio::test]
async fn to_a_bucket_by_the_environment_and_a_coordinator_takes_it_over() -> Result<()> {
    let (mut stand, terminal, etcd) = parts().await?;
    let environment = stand.s3.environment();
    let once = format!(
        "backstay-agent once --cluster {CLUSTER} --etcd {etcd} --store s3://{} \
         --recipient $(age-keygen -y own.key)",
        stand.s3.bucket()
    );
    let first = terminal.prints(&format!("{environment} {once}")).await?;
    let second = terminal.prints(&format!("{environment} {once}")).await?;
    ensure!(said(&first, "cluster ")?.contains("new:") && !said(&second, "cluster ")?.contains("new:"), "{second}");
    assert_eq!(only_whole_backups(&stand).await?, 2);
    let for_all = once.replace("--recipient $(age-keygen -y own.key)", "");
    let refused = terminal.run(&format!("{environment} {for_all}")).await?;
    let is_told =
        refused.stderr.contains("are encrypted, but neither") && refused.stderr.contains("--allow-unencrypted");
    ensure!(!refused.status.success() && is_told, "{refused:?}");
    assert_eq!(only_whole_backups(&stand).await?, 2);
    let unsealed = terminal.run(&format!("{environment} {for_all} --allow-unencrypted")).await?;
    ensure!(unsealed.stderr.contains("the backup is not encrypted"), "{unsealed:?}");

    let wrong = environment.replace(stand.s3.secret_access_key(), "wrong-secret");
    let error = terminal.refused(&format!("{wrong} {once}")).await?;
    ensure!(error.starts_with("Error: failed to ") && error.contains("SignatureDoesNotMatch"), "{error}");
    ensure!(!error.contains("wrong-secret"), "{error}");

    // The store is the truth: a coordinator that comes later goes on under the same UUID.
    stand.start_daemons().await?;
    crate::world::leads(&stand).await?;
    stand.configure_s3().await?;
    let backups = at_least(&stand, CLUSTER, 3).await?;
    ensure!(backups.iter().all(|b| said(&first, "cluster ").is_ok_and(|line| line.contains(&b.uuid))), "{backups:?}");
    Ok(())
}

#[tokio::test]
async fn the_lines_that_it_prints_open_and_restore_the_backup() -> Result<()> {
    let (_stand, terminal, etcd) = parts().await?;
    terminal.silent("mkdir 'my store' && mv own.key recovery.key").await?;
    terminal.silent("{ echo '# those who may restore'; age-keygen -y recovery.key; } > recipients").await?;
    let store = terminal.folder().join("my store");
    let once = format!(
        "backstay-agent once --cluster {CLUSTER} --etcd {etcd} --store 'file://{}' --recipients-file recipients",
        store.display()
    );
    let printed = terminal.prints(&once).await?;
    let recipient = terminal.prints("age-keygen -y recovery.key").await?;
    assert_eq!(said(&printed, "encrypted ")?, format!("for {}", recipient.trim()));
    ensure!(said(&printed, "database ")?.contains(" bytes (") && said(&printed, "took ")?.ends_with('s'), "{printed}");
    terminal.silent(said(&printed, "open with ")?).await?;
    terminal.prints(&format!("{} snapshot status snapshot.db", snapshot_tool()?)).await?;
    let restored = terminal.run(said(&printed, "restore ")?).await?;
    ensure!(restored.status.success() && restored.stdout.starts_with("restored   restored\n"), "{restored:?}");
    // The line that an error suggests can be pasted as well.
    let wrong = format!(
        "backstayctl restore --store 'file://{}' --snapshot FFFFFFFF00000000 --identity recovery.key --data-dir other",
        store.display()
    );
    let refused = terminal.refused(&wrong).await?;
    let list = refused.split('`').nth(1).context("a command to run")?;
    ensure!(terminal.prints(list).await?.contains(CLUSTER), "{refused}");
    Ok(())
}

#[tokio::test]
async fn on_a_terminal_it_shows_how_far_it_is_and_nowhere_else() -> Result<()> {
    let (_stand, terminal, etcd) = parts().await?;
    terminal.silent("mkdir store").await?;
    let once = format!(
        "backstay-agent once --cluster {CLUSTER} --etcd {etcd} --store file://$PWD/store --recipient $(age-keygen -y own.key)"
    );
    terminal.silent(&format!("echo '{once}' > once.sh")).await?;
    let shown = terminal.prints("script -qec 'bash once.sh' /dev/null").await?;
    // The terminal turns line ends into two characters.
    let lines: Vec<&str> = shown.split(['\r', '\n']).collect();
    ensure!(lines.contains(&"\u{1b}[Kconnecting to etcd and the store"), "{shown:?}");
    ensure!(lines.iter().any(|line| line.starts_with("\u{1b}[Kstored     file://")), "{shown:?}");
    let silent = terminal.prints("bash once.sh").await?;
    ensure!(silent.starts_with("stored ") && !silent.contains(['\r', '\u{1b}']), "{silent:?}");
    Ok(())
}

/// Starts `once` with the stand's own S3 environment.
fn spawn_once(stand: &Stand, etcd: &str, store: &str) -> Result<Process> {
    let mut command: Command = bare_command(&binary("backstay-agent")?);
    command.args(["once", "--cluster", CLUSTER, "--etcd", etcd, "--store", store]);
    command.envs(stand.s3.variables());
    Process::spawn("backstay-agent once", command, &stand.folder().join("once.log"))
}

#[tokio::test]
async fn sigterm_in_the_middle_of_an_upload_leaves_nothing_in_the_bucket() -> Result<()> {
    let (stand, _terminal, etcd) = parts().await?;
    if !stand.s3.can_fail("sigterm_in_the_middle_of_an_upload_leaves_nothing_in_the_bucket") {
        return Ok(());
    }
    // More than a part, and of text that does not compress.
    stand.cluster(CLUSTER).etcd.put_many("/big/", 3_000, 10_000).await?;
    let gate = stand.s3.hold(Op::UploadPart.always());
    let mut once = spawn_once(&stand, &etcd, &format!("s3://{}", stand.s3.bucket()))?;
    stand.s3.reached(Op::UploadPart, 1, SOON).await?;
    ensure!(!stand.s3.unfinished().await?.is_empty(), "no upload is under way");
    let ended = once.sigterm_and_wait(STOP).await?;
    assert_eq!(ended.code(), Some(1));
    ensure!(once.log().contains("Error: interrupted; no backup was made"), "{}", once.log());
    gate.open();
    ensure!(stand.s3.unfinished().await?.is_empty(), "left: {:?}", stand.s3.unfinished().await?);
    let left: Vec<String> = stand.s3.objects().await?.into_keys().collect();
    assert_eq!(left, [format!("names/{CLUSTER}.json")], "the name keeps its UUID for the next try");
    Ok(())
}

#[tokio::test]
async fn sigterm_in_the_middle_of_a_snapshot_leaves_nothing_in_the_folder() -> Result<()> {
    let (stand, terminal, etcd) = parts().await?;
    stand.cluster(CLUSTER).etcd.put_many("/big/", 3_000, 10_000).await?;
    let target: SocketAddr = etcd.trim_start_matches("http://").parse().context("etcd's address")?;
    let wire = Proxy::start(target).await?;
    wire.set(Wire::Slow(512 * 1024));
    terminal.silent("mkdir store").await?;
    let store = terminal.folder().join("store");
    let name = store.join(format!("names/{CLUSTER}.json"));
    let mut once = spawn_once(&stand, &format!("http://{}", wire.address()), &format!("file://{}", store.display()))?;
    eventually(SOON, || async {
        let (named, others): (Vec<_>, Vec<_>) = files(&store)?.into_iter().partition(|file| *file == name);
        let under_way = !named.is_empty() && others.iter().any(|file| size(file) > 0);
        ensure!(under_way, "nothing is under way: {named:?} {others:?}");
        Ok(())
    })
    .await
    .with_context(|| once.log())?;
    let ended = once.sigterm_and_wait(STOP).await?;
    assert_eq!(ended.code(), Some(1));
    assert_eq!(files(&store)?, [name], "the name keeps its UUID");
    Ok(())
}

fn size(file: &Path) -> u64 {
    // A file that is gone by now has no size.
    std::fs::metadata(file).map(|m| m.len()).unwrap_or_default()
}

/// Every file below a folder, hidden ones too.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { found.extend(files(&path)?) } else { found.push(path) }
    }
    Ok(found)
}

#[tokio::test]
async fn what_cannot_be_backed_up_is_said() -> Result<()> {
    let stand = start(stand().cluster(CLUSTER, 1)).await?;
    let terminal = Terminal::new(&stand)?;
    terminal.silent("mkdir store").await?;
    let store = format!("file://{}", terminal.folder().join("store").display());
    let nobody = backstay_tests::free_port()?;
    let dead = format!("backstay-agent once --cluster c --etcd http://{} --store {store}", nobody.address());
    let output = terminal.run(&dead).await?;
    ensure!(output.status.code() == Some(1) && output.stderr.contains(&nobody.address().to_string()), "{output:?}");
    let etcd = &stand.cluster(CLUSTER).etcd.members[0].client_url;
    let nowhere = format!("backstay-agent once --cluster c --etcd {etcd} --store file:///no/such/folder");
    let output = terminal.run(&nowhere).await?;
    ensure!(output.status.code() == Some(1) && output.stderr.contains("/no/such/folder"), "{output:?}");
    // What was given as a flag is named as that flag; that there are no keys is said as that.
    let tls = "backstay-agent once --cluster c --etcd https://127.0.0.1:1 --store";
    let bucket =
        "env -u AWS_PROFILE AWS_EC2_METADATA_DISABLED=true HOME=$PWD backstay-agent once --cluster c --store s3://b";
    for (command, says) in [
        (format!("{tls} {store}"), "--etcd-ca is required for an https endpoint"),
        (format!("{tls} {store} --etcd-ca absent.crt"), "the etcd CA absent.crt (--etcd-ca): No such file"),
        (
            format!("{tls} {store} --etcd-ca absent.crt --recipients-file absent"),
            "--recipients-file absent: No such file",
        ),
        (
            format!("{bucket} --endpoint http://127.0.0.1:1 --etcd {etcd}"),
            "no S3 credentials were found: set AWS_ACCESS",
        ),
    ] {
        let error = terminal.refused(&format!("{command} 2> >(grep -v ^Warning >&2)")).await?;
        ensure!(error.contains(says), "`{command}`: {error}");
    }
    assert_eq!(terminal.prints("find store -type f").await?, "");
    Ok(())
}
