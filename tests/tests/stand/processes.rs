//! Child processes: ends, signals, logs.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use backstay_tests::{Folder, Process};

use super::{SOON, runs};

fn shell(folder: &Folder, script: &str) -> Result<Process> {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    Process::spawn("sh", command, &folder.path().join("log"))
}

#[tokio::test]
async fn a_process_is_gone_when_dropped_even_if_it_is_paused_and_ignores_sigterm() -> Result<()> {
    let folder = Folder::new("test")?;
    let mut process = shell(&folder, "trap '' TERM; echo up; exec sleep 1000")?;
    process.wait_for_log("up", SOON).await?;
    let error = process.sigterm_and_wait(Duration::from_millis(50)).await.expect_err("it ignores SIGTERM");
    assert!(format!("{error:#}").contains("still runs"), "{error:#}");
    process.pause()?;
    let id = process.id();
    assert!(runs(id));
    drop(process);
    assert!(!runs(id));
    Ok(())
}

#[tokio::test]
async fn a_process_is_gone_after_a_panic() -> Result<()> {
    let folder = Folder::new("test")?;
    let process = shell(&folder, "exec sleep 1000")?;
    let id = process.id();
    let panicked = std::thread::spawn(move || {
        let _held = process;
        panic!("on purpose");
    });
    assert!(panicked.join().is_err());
    assert!(!runs(id));
    Ok(())
}

#[tokio::test]
async fn sigterm_ends_it_and_its_status_is_told() -> Result<()> {
    let folder = Folder::new("test")?;
    let mut process = shell(&folder, "trap 'echo bye >&2; exit 7' TERM; echo up; while :; do sleep 0.05; done")?;
    process.wait_for_log("up", SOON).await?;
    let mark = process.log_mark();
    assert_eq!(process.sigterm_and_wait(SOON).await?.code(), Some(7));
    assert_eq!(process.wait_for_log_after(mark, "bye", SOON).await?, "bye");
    assert!(process.pause().is_err(), "nobody is there to be paused");
    Ok(())
}

#[tokio::test]
async fn a_text_that_never_comes_is_an_error_that_shows_the_log() -> Result<()> {
    let folder = Folder::new("test")?;
    let mut process = shell(&folder, "echo something else; exit 3")?;
    process.wait(SOON).await?;
    let error = process.wait_for_log("ready", Duration::from_millis(50)).await.expect_err("it never says so");
    let text = format!("{error:#}");
    assert!(text.contains("something else") && text.contains("exit status: 3"), "{text}");
    Ok(())
}

#[tokio::test]
async fn what_it_uses_is_measured() -> Result<()> {
    let folder = Folder::new("test")?;
    let mut process = shell(&folder, "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; echo up; exec sleep 1000")?;
    process.wait_for_log("up", SOON).await?;
    assert!(process.peak_memory()? > 100_000);
    assert!(process.cpu_time()? > Duration::ZERO);
    Ok(())
}
