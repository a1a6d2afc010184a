//! Ctrl-C and SIGTERM, for programs that must clean up before they go.

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};

/// What a shell gives a program that Ctrl-C ended.
pub const INTERRUPTED: u8 = 130;

/// Waits for Ctrl-C or SIGTERM.
pub async fn interrupted() -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("failed to listen for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("failed to listen for SIGTERM")?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
