//! The command line for people: see `backstay_coordinator::cli`.

#![deny(clippy::disallowed_macros)]

use std::process::ExitCode;

fn main() -> ExitCode {
    backstay_coordinator::cli::main()
}
