//! The local backend: the whole line in a folder that agents and coordinator share, and one that they do not.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use backstay_tests::daemon::{bare_command, binary};
use backstay_tests::{Process, eventually};
use serde_json::Value;

use crate::refusals::reason;
use crate::terminal::{Terminal, snapshot_tool};
use crate::world::{CLUSTER, SOON, back_up, fails, leads, listed, now, overall, resources, stand, start, succeeds};

#[tokio::test]
async fn the_whole_line_in_a_folder() -> Result<()> {
    let stand = start(stand().local().cluster(CLUSTER, 1)).await?;
    let terminal = Terminal::new(&stand)?;
    let status = overall(&stand).await?;
    assert_eq!((&status["configurationname"], &status["configurationerror"]), (&"local".into(), &"".into()));
    assert_eq!(status["configurationattempt"], Value::Null);

    stand.cluster(CLUSTER).etcd.put_many("/data/", 50, 1000).await?;
    back_up(&stand, CLUSTER).await?;
    let backups = back_up(&stand, CLUSTER).await?;
    assert_eq!(backups.len(), 2);
    succeeds(&stand, CLUSTER).await?;
    let folder = stand.local_path().join(&backups[0].uuid);
    let mut expected = vec!["key.age".to_owned()];
    for backup in &backups {
        expected.extend([backup.snapshot.clone(), backup.snapshot.replace(".snapshot", ".manifest.json")]);
        let file = folder.join(&backup.snapshot);
        assert_eq!(std::fs::metadata(&file)?.len(), backup.size);
        let key = stand.coordinators[0].folder.join("recovery.key");
        let open = format!("age -d -i {} {} | zstd -d -q > x.db", key.display(), file.display());
        terminal.silent(&open).await?;
        terminal.prints(&format!("{} snapshot status x.db", snapshot_tool()?)).await?;
    }
    expected.sort();
    assert_eq!(visible(&folder)?, expected);
    ensure!(partial(&folder)?.is_empty(), "left over: {:?}", partial(&folder)?);
    explained(&stand.local_path(), &backups[0].uuid)
}

/// Every file of the store, hidden ones too, is of a kind that README explains.
fn explained(store: &Path, uuid: &str) -> Result<()> {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md"))?;
    let (_, section) = readme.split_once("\n## What is in the store\n").context("no section in README.md")?;
    let (section, _) = section.split_once("\n## ").context("the section has no end")?;
    let mut kinds: Vec<String> = Vec::new();
    for folder in [uuid, "names"] {
        for name in names(&store.join(folder))?.iter().filter(|name| *name != "intents") {
            kinds.push(kind(&format!("{folder}/{name}"), uuid));
        }
    }
    for expected in ["UUID/NAME.snapshot", "UUID/key.age", "UUID/.NAME.snapshot.INODE.owner", "names/CLUSTER.json"] {
        ensure!(kinds.iter().any(|kind| kind == expected), "the store has no {expected}: {kinds:?}");
    }
    for kind in kinds {
        ensure!(section.contains(&format!("| `{kind}` |")), "README.md does not explain {kind}");
    }
    Ok(())
}

/// A file as README names its kind.
fn kind(path: &str, uuid: &str) -> String {
    let segment = |segment: &str| match segment {
        _ if segment == CLUSTER => "CLUSTER".to_owned(),
        name if name.len() == 16 && name.starts_with("FFFF") => "NAME".to_owned(),
        inode if !inode.is_empty() && inode.bytes().all(|b| b.is_ascii_hexdigit()) => "INODE".to_owned(),
        other => other.to_owned(),
    };
    let place = |part: &str| part.split('.').map(segment).collect::<Vec<_>>().join(".");
    path.replace(uuid, "UUID").split('/').map(place).collect::<Vec<_>>().join("/")
}

/// What `ls` shows, sorted.
fn visible(folder: &Path) -> Result<Vec<String>> {
    let mut names = names(folder)?;
    names.retain(|name| !name.starts_with('.') && name != "intents");
    Ok(names)
}

/// What an upload that did not end would have left.
fn partial(folder: &Path) -> Result<Vec<String>> {
    let mut names = names(folder)?;
    names.retain(|name| name.contains("partial") || name.contains("part-") || name.contains(".new"));
    if folder.join("intents").exists() {
        names.extend(self::names(&folder.join("intents"))?);
    }
    Ok(names)
}

fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("failed to read {}", folder.display()))?;
    let mut names = entries.map(|e| Ok(e?.file_name().to_string_lossy().into_owned())).collect::<Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

#[tokio::test]
async fn an_s3_configuration_is_refused() -> Result<()> {
    let stand = start(stand().local().cluster(CLUSTER, 1)).await?;
    let terminal = Terminal::new(&stand)?;
    let address = "default/etcd-backup-s3-conf";
    let reason = reason(&terminal, "EtcdBackupS3Configs", address, &stand.s3_config()).await?;
    let expected = "the coordinator is configured for the local backend: set [storage] backend = \"s3\" to use S3";
    assert_eq!(reason, expected);
    ensure!(resources(&stand, &["etcdbackups3config"]).await?.is_empty(), "it was stored");
    assert_eq!(overall(&stand).await?["configurationname"], "local");
    back_up(&stand, CLUSTER).await?;
    Ok(())
}

#[tokio::test]
async fn a_folder_that_cannot_be_used_is_said() -> Result<()> {
    let mut stand = stand().local().cluster(CLUSTER, 1).idle().start().await?;
    std::fs::remove_dir(stand.local_path())?;
    stand.start_daemons().await?;
    leads(&stand).await?;
    let status = overall(&stand).await?;
    let error = status["configurationerror"].as_str().context("a text")?;
    ensure!(error.contains(&stand.local_path().display().to_string()), "{error}");
    let terminal = Terminal::new(&stand)?;
    let manual = backstay_tests::Stand::manual_backup(CLUSTER, now());
    let reason = reason(&terminal, "EtcdManualBackups", &format!("ephemeral/{CLUSTER}"), &manual).await?;
    let says = format!("failed to open {}: this folder does not exist", stand.local_path().display());
    ensure!(reason.starts_with(&format!("backup storage is not available: {says}")), "{reason}");
    Ok(())
}

/// The same path leads each process into its own folder, as on two machines without a network mount.
const OWN_FOLDER: &str = "/proc/self/cwd/backups";

#[tokio::test]
async fn a_folder_that_is_not_shared_is_said_in_the_status() -> Result<()> {
    let stand = stand().local().cluster(CLUSTER, 1).idle().start().await?;
    let agent = &stand.cluster(CLUSTER).agents[0];
    let config = stand.coordinators[0].folder.join("coordinator.toml");
    let _coordinator = on_another_machine(stand.folder(), "backstay-coordinator", "serve", &config)?;
    let _agent = on_another_machine(stand.folder(), "backstay-agent", "run", &agent.config)?;
    leads(&stand).await?;
    eventually(SOON, || async {
        let manual = backstay_tests::Stand::manual_backup(CLUSTER, now());
        stand.apply(&manual).await?.ok()
    })
    .await?;
    let error = fails(&stand, CLUSTER).await?;
    let expected = format!(" is not visible at {OWN_FOLDER} from the coordinator: local storage needs a shared folder");
    ensure!(error.contains(&expected), "{error}");
    ensure!(listed(&stand, CLUSTER).await?.is_empty(), "a backup is listed that the coordinator cannot see");
    Ok(())
}

/// A daemon with a folder `backups` of its own where it runs.
fn on_another_machine(folder: &Path, program: &str, verb: &str, config: &Path) -> Result<Process> {
    let machine: PathBuf = folder.join(format!("machine-of-{program}"));
    std::fs::create_dir_all(machine.join("backups"))?;
    std::fs::set_permissions(machine.join("backups"), std::fs::Permissions::from_mode(0o700))?;
    let mut command = bare_command(&binary(program)?);
    command.args([verb, "--config"]).arg(config).current_dir(&machine);
    command.env("BACKSTAY_BEAT_INTERVAL", "500ms");
    if program == "backstay-coordinator" {
        command.env_remove("BACKSTAY_BEAT_INTERVAL").env("BACKSTAY_STORAGE__PATH", OWN_FOLDER);
    }
    Process::spawn(program, command, &folder.join(format!("{program}.log")))
}
