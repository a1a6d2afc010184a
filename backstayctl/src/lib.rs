//! `backstayctl`: the command line's grammar, and the way from arguments to an exit code.
//!
//! The modules are of three kinds: reading ([`reader`], [`files`], [`documents`], [`template`]), asking ([`api`] over
//! [`bus`]), and printing ([`output`], [`diff`], [`console`]). [`run`] puts them together. Only [`restore`] works on a
//! store.

#![deny(clippy::disallowed_macros)]
#![warn(clippy::missing_errors_doc)]

pub mod api;
pub mod apply;
pub mod arguments;
pub mod backup;
pub mod backups;
pub mod bus;
pub mod cluster_restore;
pub mod completion;
pub mod console;
pub mod contexts;
pub mod delete;
pub mod describe;
pub mod diff;
pub mod documents;
pub mod files;
pub mod get;
pub mod interrupt;
pub mod kinds;
pub mod listing;
pub mod manual;
pub mod meant;
pub mod output;
pub mod progress;
pub mod reader;
mod refused;
pub mod restore;
pub mod run;
pub mod schedule;
pub mod session;
pub mod status;
pub mod template;
#[cfg(test)]
pub mod testing;
pub mod verify;
pub mod version;
pub mod watch;

use std::borrow::Cow;
use std::io::{self, IsTerminal};
use std::process::ExitCode;

use arguments::Arguments;
use backstay_daemon::secrecy::{no_core_file, without_secrets};
use backstay_daemon::{SystemClock, terminal};
use console::{Console, Failure};
use interrupt::Interrupts;

/// The whole program: parses the process's arguments, runs, and prints what went wrong.
pub fn main() -> ExitCode {
    // Completion may read passwords, too.
    if let Err(cause) = no_core_file() {
        terminal::tell(&format!("Error: cannot disable core dumps: {cause}"));
        return ExitCode::FAILURE;
    }
    match completion::complete() {
        Ok(false) => {}
        Ok(true) => return ExitCode::SUCCESS,
        Err(error) => return terminal::ended(&error),
    }
    let arguments = match Arguments::read(std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(error) => return terminal::ended(&arguments::tips::helpful(error)),
    };
    let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let (mut out, mut err) = (io::stdout(), io::stderr());
    let bar = err.is_terminal();
    let asks = io::stdin().is_terminal();
    let screen = io::stdout().is_terminal();
    let interrupts = Interrupts::Process;
    let mut console = Console { out: &mut out, err: &mut err, colour, bar, screen, asks, interrupts, lost: None };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(cause) => {
            let _ = console.remark(&format!("Error: cannot start: {cause}"));
            return ExitCode::FAILURE;
        }
    };
    let answers = arguments.command.answers();
    let result =
        runtime.block_on(run::run(arguments, &mut io::stdin(), std::env::vars_os(), &SystemClock, &mut console));
    ended(result, answers, &mut console)
}

/// The exit code says whether the work was done; if the work is to print something, whether it was printed. A reader
/// that has closed the pipe, as `head` does, has what it wanted.
fn ended(result: Result<(), Failure>, answers: bool, console: &mut Console<'_>) -> ExitCode {
    let lost = console.lost.take().filter(|error| error.kind() != io::ErrorKind::BrokenPipe);
    let failure = match (result, lost) {
        (Ok(()), None) => return ExitCode::SUCCESS,
        (Ok(()), Some(cause)) if answers => Failure::Output(cause),
        (Ok(()), Some(cause)) => {
            let _ = console.remark(&format!(
                "Warning: the command succeeded, but its output could not be written: \
                {cause}"
            ));
            return ExitCode::SUCCESS;
        }
        (Err(failure), _) => failure,
    };
    match &failure {
        Failure::No => {}
        // Whoever pressed Ctrl-C made no mistake.
        Failure::Interrupted { .. } => drop(console.remark(&failure.to_string())),
        _ => {
            let text = format!("Error: {failure}");
            let _ = console.remark(&text);
            if matches!(without_secrets(&text), Cow::Owned(_)) {
                let _ = console.remark(
                    "Note: <hidden> looks like a secret key. Options such as --identity and --nats-nkey take the name \
                     of a file that contains the key",
                );
            }
        }
    }
    ExitCode::from(failure.exit_code())
}
