//! `backstay-demo`: walks the documentation page step by step on real parts, shows each command with what it
//! really printed, and ends with what was proven, or with an error.
//!
//! `KEEP=1` leaves everything running until Ctrl-C.

use std::process::ExitCode;

use backstay_tests::interrupt::{INTERRUPTED, interrupted};

#[path = "../demo/mod.rs"]
mod demo;

#[tokio::main]
async fn main() -> ExitCode {
    let keep = std::env::var("KEEP").is_ok_and(|value| !["", "0"].contains(&value.as_str()));
    let ended = tokio::select! {
        // First the demo: with KEEP it waits for the same signal, and its outcome counts.
        biased;
        walked = demo::demo(keep) => Some(walked),
        waited = interrupted() => waited.err().map(Err),
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
