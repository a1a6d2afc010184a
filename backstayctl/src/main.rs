//! The command line for people; see the library.

#![deny(clippy::disallowed_macros)]

use std::process::ExitCode;

fn main() -> ExitCode {
    backstayctl::main()
}
