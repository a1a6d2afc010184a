//! `backstay-bench`: compares a backup by Backstay with a bare `etcdctl snapshot save`, side by side in the same
//! rounds, and says which of the project's figures are met. It fails only where something does not work.

use std::process::ExitCode;

use backstay_tests::interrupt::{INTERRUPTED, interrupted};
use clap::Parser;

#[path = "../bench/mod.rs"]
mod bench;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = bench::Arguments::parse();
    let ended = tokio::select! {
        measured = bench::bench(&arguments) => Some(measured),
        waited = interrupted() => waited.err().map(Err),
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
