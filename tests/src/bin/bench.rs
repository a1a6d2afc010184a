//! `backstay-bench`: compares a backup by Backstay with a bare `etcdctl snapshot save`, side by side in the same
//! rounds, and says which of the project's figures are met. It fails only where something does not work.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

#[path = "../bench/mod.rs"]
mod bench;

/// What a shell gives a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = bench::Arguments::parse();
    let ended = tokio::select! {
        measured = bench::bench(&arguments) => Some(measured),
        stopped = stopped() => stopped.err().map(Err),
    };
    match ended {
        Some(Ok(())) => ExitCode::SUCCESS,
        Some(Err(error)) => {
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
        None => ExitCode::from(INTERRUPTED),
    }
}

/// Waits for Ctrl-C or SIGTERM.
async fn stopped() -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("failed to listen for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("failed to listen for SIGTERM")?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
