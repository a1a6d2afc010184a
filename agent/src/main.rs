//! The main program of backstay-agent: arguments, runtime, signals, exit code.

#![deny(clippy::disallowed_macros)]

use std::io::{IsTerminal, stderr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use backstay_agent::attempt::Member;
use backstay_agent::cli::{Cli, Command, OnceArgs, RunArgs, TIPS};
use backstay_agent::etcd::Etcd;
use backstay_agent::once::{once, show};
use backstay_agent::{Agent, Settings};
use backstay_daemon::logs::{self, LEVEL_VARIABLE, LogFormat};
use backstay_daemon::secrecy::no_core_file;
use backstay_daemon::{SystemClock, settings, stop, terminal};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use tracing::warn;

/// How long to wait for threads that are still busy when everything else has ended.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let cli = match terminal::arguments::<Cli>(&TIPS) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    match start(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            terminal::tell(&format!("Error: {}", terminal::line(&format!("{error:#}"))));
            ExitCode::FAILURE
        }
    }
}

fn start(cli: Cli) -> anyhow::Result<()> {
    no_core_file().context("cannot disable core dumps")?;
    // Sealing and verifying have threads of their own. What etcd sends is best read where it is received: a second
    // worker would fetch each frame from the first one's cache.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    let result = match cli.command {
        Command::Run(args) => runtime.block_on(run(&args)),
        Command::Once(args) => runtime.block_on(one_backup(*args)),
    };
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    result
}

async fn run(args: &RunArgs) -> anyhow::Result<()> {
    let unknown = settings::unknown::<Settings>(settings::variables());
    let loaded = Settings::load(args.config.as_deref(), settings::variables(), args.overrides());
    let settings = match loaded {
        Ok(settings) if !args.print_config => settings,
        // Nothing is logged then: a person reads it.
        other => {
            unknown.iter().for_each(|unknown| terminal::tell(&format!("Warning: {unknown}")));
            return terminal::answer(&settings::print(&other?)?).context("cannot write the output");
        }
    };
    logs::init(settings.log)?;
    unknown.iter().for_each(|unknown| warn!("{unknown}"));
    let signals = TaskTracker::new();
    let stop = stop::on_signal(&signals).context("cannot install the signal handlers")?;
    Ok(Agent::build(settings, Arc::new(SystemClock))?.run(stop).await?)
}

async fn one_backup(args: OnceArgs) -> anyhow::Result<()> {
    // The outcome, and what was skipped on the way, are all that a person wants to see, unless asked for more.
    match std::env::var(LEVEL_VARIABLE) {
        Ok(said) => logs::init(LogFormat::named(&said).unwrap_or_default())?,
        Err(_) => logs::init_warnings(),
    }
    let (what, etcd, inspection) = args.resolve().map_err(|text| anyhow!(text))?;
    if what.recipients.is_empty() {
        terminal::tell(
            "Warning: the backup is not encrypted, because neither --recipient nor --recipients-file was given",
        );
    }
    let signals = TaskTracker::new();
    let stop = stop::on_signal(&signals).context("cannot install the signal handlers")?;
    let member = Member { etcd: Etcd::new(etcd)?, inspection };
    let (tries, seen) = watch::channel(Arc::default());
    let taken = once(what, &member, &SystemClock, &tries, &stop);
    match show::shown(taken, stderr().is_terminal(), &seen).await {
        Ok(taken) => {
            if let Some(off) = &taken.clock_off {
                terminal::tell(&format!(
                    "Warning: this machine's clock is {off}. Backups are named by this clock: correct the one that is \
                     wrong"
                ));
            }
            // The backup is what was asked for, and it is there.
            if let Err(error) = terminal::print(&format!("{taken}\n")) {
                terminal::tell(&format!("Warning: the output could not be written ({error}); stored {}", taken.url));
            }
            Ok(())
        }
        Err(_) if stop.is_cancelled() => Err(anyhow!("interrupted; no backup was made")),
        Err(failure) => Err(failure.into()),
    }
}
