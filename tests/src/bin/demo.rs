//! `backstay-demo`: walks the documentation page step by step on real parts, shows each command with what it
//! really printed, and ends with what was proven, or with an error.
//!
//! `KEEP=1` leaves everything running until Ctrl-C.

use std::process::ExitCode;

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};

#[path = "../demo/mod.rs"]
mod demo;

/// What a shell gives a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

#[tokio::main]
async fn main() -> ExitCode {
    let keep = std::env::var("KEEP").is_ok_and(|value| !["", "0"].contains(&value.as_str()));
    let ended = tokio::select! {
        walked = demo::demo(keep) => Some(walked),
        stopped = stopped() => stopped.err().map(Err),
    };
    // By now every part is stopped and every folder removed: their owner was dropped with the future.
    match ended {
        Some(Ok(())) => ExitCode::SUCCESS,
        Some(Err(error)) => {
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
        None => {
            eprintln!("\nInterrupted: everything is stopped and removed.");
            ExitCode::from(INTERRUPTED)
        }
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
