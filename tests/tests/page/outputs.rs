//! Outputs that are full or closed, of each program: nobody panics, and the exit code says whether the work was done.

use anyhow::{Result, ensure};

use crate::terminal::Terminal;
use crate::world::{CLUSTER, back_up, configured};

const PANIC: &str = "panicked";

/// Runs a command with its outputs as told, and says its exit code and what it wrote beside.
async fn ends(terminal: &Terminal, command: &str, outputs: &str) -> Result<i32> {
    let line = format!("set +e; {command} {outputs}; echo \"code ${{PIPESTATUS[0]}}\" >&2");
    let output = terminal.run(&line).await?;
    ensure!(!output.stderr.contains(PANIC) && !output.stdout.contains(PANIC), "`{command} {outputs}`: {output:?}");
    let code = output.stderr.lines().rev().find_map(|line| line.strip_prefix("code ")).unwrap_or_default();
    Ok(code.parse()?)
}

const FULL: &str = "> /dev/full";
const ALL_FULL: &str = "> /dev/full 2> /dev/full";
const CLOSED: &str = "| true";
const ALL_CLOSED: &str = "2>&1 | true";

#[tokio::test]
async fn what_only_answers_needs_somebody_to_read() -> Result<()> {
    let stand = configured().await?;
    let terminal = Terminal::new(&stand)?;
    terminal.prints("backstay-coordinator init --dir init > said && mkdir store").await?;
    terminal.silent("echo 'cluster = \"prod\"' > agent.toml").await?;
    for command in [
        "backstayctl --help",
        "backstay-agent --help",
        "backstay-agent once --help",
        "backstay-coordinator --help",
        "backstay-agent --version",
        "backstayctl completion bash",
        "backstayctl get clusters",
        "backstayctl get clusters -o yaml",
        "backstayctl agents",
        "backstayctl list --store file://$PWD/store",
        "backstay-agent run --config agent.toml --print-config",
        "backstay-coordinator serve --config init/coordinator.toml --print-config",
    ] {
        assert_eq!(ends(&terminal, command, "> /dev/null").await?, 0, "{command}");
        for full in [FULL, ALL_FULL] {
            // An empty list writes nothing but its note.
            assert_eq!(ends(&terminal, command, full).await?, 1, "{command} {full}");
        }
        for closed in [CLOSED, ALL_CLOSED] {
            assert_eq!(ends(&terminal, command, closed).await?, 0, "{command} {closed}");
        }
    }
    // What is wrong stays wrong, whoever reads.
    for outputs in ["> /dev/null", FULL, ALL_FULL, CLOSED, ALL_CLOSED] {
        assert_eq!(ends(&terminal, "backstayctl get nonsense", outputs).await?, 1, "{outputs}");
        assert_eq!(ends(&terminal, "backstayctl nonsense", outputs).await?, 2, "{outputs}");
        assert_eq!(ends(&terminal, "backstay-agent once", outputs).await?, 2, "{outputs}");
        assert_eq!(ends(&terminal, "backstayctl status nobody", outputs).await?, 1, "{outputs}");
    }
    Ok(())
}

#[tokio::test]
async fn work_is_done_whoever_reads() -> Result<()> {
    let stand = configured().await?;
    back_up(&stand, CLUSTER).await?;
    let terminal = Terminal::new(&stand)?;
    terminal.silent("mkdir store").await?;
    let etcd = &stand.cluster(CLUSTER).etcd.members[0].client_url;
    let once = format!("backstay-agent once --cluster {CLUSTER} --etcd {etcd} --store file://$PWD/store");
    let backup = format!("backstayctl backup {CLUSTER} --wait");
    let count = "find store -name '*.manifest.json' | wc -l";
    for (done, outputs) in [FULL, ALL_FULL, CLOSED, ALL_CLOSED].into_iter().enumerate() {
        assert_eq!(ends(&terminal, &once, outputs).await?, 0, "{outputs}");
        assert_eq!(terminal.prints(count).await?.trim(), (done + 1).to_string(), "{outputs}");
        assert_eq!(ends(&terminal, &backup, outputs).await?, 0, "{outputs}");
        let init = format!("backstay-coordinator init --dir init{done}");
        assert_eq!(ends(&terminal, &init, outputs).await?, 0, "{outputs}");
        terminal.silent(&format!("test -s init{done}/recovery.key")).await?;
        let man = format!("mkdir man{done} && backstayctl man man{done}");
        assert_eq!(ends(&terminal, &man, outputs).await?, 0, "{outputs}");
        terminal.silent(&format!("test -s man{done}/backstayctl.1")).await?;
    }
    // What init had to say is said where somebody reads.
    let said = terminal.run("backstay-coordinator init --dir last > /dev/full").await?;
    ensure!(said.stderr.contains("Move ") && said.stderr.contains("recovery.key off this machine"), "{said:?}");
    // A work that fails says so in any case.
    let failing = once.replace(etcd, "http://127.0.0.1:1");
    for outputs in [FULL, ALL_FULL, CLOSED, ALL_CLOSED] {
        assert_eq!(ends(&terminal, &failing, outputs).await?, 1, "{outputs}");
    }
    Ok(())
}
