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

const INIT_HELP: &str = "\
Existing files are never overwritten.

Examples:
  backstay-coordinator init --dir /etc/backstay --nats nats://nats.example:4222
  backstay-coordinator init --dir /etc/backstay --local /srv/backups";

const SERVE_HELP: &str = "\
Settings come from the configuration file, then the environment (BACKSTAY_ and
the key in capitals, with __ between levels, such as BACKSTAY_NATS__URL), then
flags. Later ones override earlier ones. The sample coordinator.toml explains
every setting.

Examples:
  backstay-coordinator serve --config /etc/backstay/coordinator.toml
  backstay-coordinator serve --config /etc/backstay/coordinator.toml --print-config";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a first configuration and the keys, and explain where to keep them
    #[command(after_help = INIT_HELP)]
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
    #[command(after_help = SERVE_HELP)]
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
