//! What the programs hold in memory stays theirs: no core file, and no look from outside.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use backstay_tests::daemon::binary;
use backstay_tests::process::Process;
use backstay_tests::{Folder, Stand, eventually};

const SOON: Duration = Duration::from_secs(60);
/// A user that owns nothing.
const NOBODY: u32 = 65_534;

fn no_core_by_limit(pid: u32) -> Result<()> {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits"))?;
    let line = limits.lines().find(|line| line.starts_with("Max core file size")).context("no limit of cores")?;
    let words: Vec<&str> = line.split_whitespace().collect();
    ensure!(words[4..6] == ["0", "0"], "{line}");
    Ok(())
}

#[tokio::test]
async fn the_daemons_leave_no_core_file() -> Result<()> {
    let stand = Stand::start("prod", 1).await?;
    let daemons = [&stand.coordinators[0].daemon, &stand.cluster("prod").agents[0].daemon];
    for daemon in daemons {
        no_core_by_limit(daemon.process().context("it runs")?.id())?;
    }
    Ok(())
}

/// What the kernel lets be dumped belongs to its user in /proc; what it does not belongs to root.
#[tokio::test]
async fn nobody_of_the_same_user_can_look_into_a_program() -> Result<()> {
    // It waits for a greeting that never comes.
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let folder = Folder::new("memory")?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    let program = folder.path().join("backstayctl");
    fs::copy(binary("backstayctl")?, &program)?;
    let start = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(arguments).current_dir("/");
        if rustix::process::geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        Process::spawn("a program", command, &folder.path().join("log"))
    };
    let owner = |process: &Process| Ok::<_, anyhow::Error>(fs::metadata(format!("/proc/{}/mem", process.id()))?.uid());
    let ordinary = start("sleep", &["60"])?;
    eventually(SOON, || async { ensure_owner(owner(&ordinary)?, false) }).await?;
    let url = format!("nats://{}", silent.local_addr()?);
    let ours = start(&program.display().to_string(), &["--nats", &url, "get", "clusters"])?;
    eventually(SOON, || async {
        no_core_by_limit(ours.id())?;
        ensure_owner(owner(&ours)?, true)
    })
    .await
}

fn ensure_owner(uid: u32, root: bool) -> Result<()> {
    ensure!((uid == 0) == root, "its memory belongs to user {uid}");
    Ok(())
}
