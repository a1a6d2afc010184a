//! backstay-coordinator: builds the coordinator and runs it until a signal.

#![deny(clippy::disallowed_macros)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use backstay_coordinator::arguments::{Arguments, Command};
use backstay_coordinator::config::{self, Settings};
use backstay_coordinator::coordinator::Coordinator;
use backstay_coordinator::init;
use backstay_coordinator::keys::{self, Keys};
use backstay_coordinator::metrics::CoordinatorMetrics;
use backstay_daemon::nats::{self, ClientIdentity, Patience};
use backstay_daemon::secrecy::no_core_file;
use backstay_daemon::settings::{self, Override};
use backstay_daemon::{SystemClock, http, logs, stop, systemd, terminal};
use backstay_protocol::subject::COORDINATOR_INBOX;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

fn main() -> ExitCode {
    let arguments = match terminal::arguments::<Arguments>(&[]) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    match run(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            terminal::tell(&format!("Error: {}", terminal::line(&format!("{error:#}"))));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    no_core_file().context("cannot disable core dumps")?;
    match command {
        Command::Init { dir, local, nats } => {
            let advice = init::run(&init::Plan { dir, local, nats_url: nats })?;
            // The files are there: what is to be done with them is said wherever somebody reads it.
            if let Err(error) = terminal::print(&advice) {
                terminal::tell(&format!("Warning: the output could not be written ({error})\n{advice}"));
            }
            Ok(())
        }
        Command::Serve { config, nats, print_config } => serve(config, nats, print_config),
    }
}

#[tokio::main(worker_threads = 2)]
async fn serve(file: PathBuf, nats_url: Option<String>, print_config: bool) -> anyhow::Result<()> {
    let mut overrides = settings::from_environment::<Settings>(settings::variables());
    overrides.extend(nats_url.map(|url| Override::new("nats.url", url)));
    let unknown = settings::unknown::<Settings>(settings::variables());
    let config = match config::load(Some(&file), &overrides) {
        Ok(config) if !print_config => config,
        // Nothing is logged then: a person reads it.
        other => {
            unknown.iter().for_each(|unknown| terminal::tell(&format!("Warning: {unknown}")));
            return terminal::answer(&settings::print(&other?.settings)?).context("cannot write the output");
        }
    };
    logs::init(config.settings.log)?;
    unknown.iter().for_each(|unknown| warn!("{unknown}"));
    let identity = keys::load_identity(config.settings.identity_file())?;
    let tasks = TaskTracker::new();
    let stop = stop::on_signal(&tasks).context("cannot install the signal handlers")?;
    let role = ClientIdentity::from("backstay-coordinator").inbox(COORDINATOR_INBOX);
    let client = nats::connect(&config.settings.nats, role, Patience::Daemon).await?;
    info!(nats = config.settings.nats.shown_url(), storage = config.storage.name(), "starting");
    let metrics = CoordinatorMetrics::new(client.clone());
    let (endpoint, listen, end) = (metrics.endpoint(), config.settings.http.clone(), stop.clone());
    tasks.spawn(async move { http::serve(&listen, endpoint, &end).await });
    let coordinator = Coordinator {
        keys: Arc::new(Keys::new(identity, config.recovery.clone())),
        config: Arc::new(config),
        client,
        clock: Arc::new(SystemClock),
        metrics,
    };
    systemd::ready();
    let alive = stop.clone();
    tasks.spawn(async move { systemd::watchdog(&alive).await });
    coordinator.run(&stop).await;
    systemd::stopping();
    info!("stopped");
    Ok(())
}
