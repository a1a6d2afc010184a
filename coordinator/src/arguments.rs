//! The grammar of the command line. The main program carries the commands out.

use std::path::PathBuf;

use backstay_daemon::nats::DEFAULT_URL;
use clap::{Parser, Subcommand};

/// Schedules backups, assigns them to agents and keeps their status.
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
    /// Create a first configuration and the keys, and explain where to keep them
    Init {
        /// Directory to write to; created if it does not exist
        #[arg(long)]
        dir: PathBuf,
        /// Store backups in this directory, shared by the agents and the coordinator, instead of S3
        #[arg(long, value_name = "PATH")]
        local: Option<PathBuf>,
        /// URL of the NATS server
        #[arg(long, value_name = "URL", default_value = DEFAULT_URL)]
        nats: String,
    },
    /// Run the coordinator until SIGTERM
    Serve {
        /// Configuration file (coordinator.toml)
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// URL of the NATS server; overrides the configuration
        #[arg(long, value_name = "URL")]
        nats: Option<String>,
        /// Print the effective settings, without secrets, and exit
        #[arg(long)]
        print_config: bool,
    },
}
