//! The command line for people: see `backstay_coordinator::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    backstay_coordinator::cli::main()
}
