//! The words of the command line. What they mean is in the program itself.

use std::path::PathBuf;

use backstay_daemon::nats::DEFAULT_URL;
use clap::{Parser, Subcommand};

/// Decides when each cluster is backed up, asks the right agent, and keeps the status.
#[derive(Debug, Parser)]
#[command(
    name = "backstay-coordinator",
    version,
    after_help = "Examples:
  backstay-coordinator init --dir /etc/backstay
  backstay-coordinator serve --config /etc/backstay/coordinator.toml"
)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a first configuration and the keys, and say what to keep where
    Init {
        /// The folder to write to; made where it is not there
        #[arg(long)]
        dir: PathBuf,
        /// Keep backups in this folder, which agents and coordinator share, instead of S3
        #[arg(long, value_name = "PATH")]
        local: Option<PathBuf>,
        /// Where NATS is
        #[arg(long, value_name = "URL", default_value = DEFAULT_URL)]
        nats: String,
    },
    /// Run the coordinator until SIGTERM
    Serve {
        /// The configuration, coordinator.toml
        #[arg(long)]
        config: PathBuf,
        /// Where NATS is, instead of what the configuration says
        #[arg(long, value_name = "URL")]
        nats: Option<String>,
        /// Print the settings that are in force, without secrets, and do nothing else
        #[arg(long)]
        print_config: bool,
    },
}
