//! Arguments and help of `config`: named connections.

use clap::Subcommand;

use super::operate::Form;
use crate::contexts::model;

pub const CONFIG_HELP: &str = "\
A context is a named connection to NATS. Contexts are stored in a file that only
you can read: $BACKSTAYCTL_CONFIG or, if that is not set,
$XDG_CONFIG_HOME/backstay/config.toml or ~/.config/backstay/config.toml.

Each setting is taken from the flags (--context is one of them), then the
environment, then the current context, then the default.

Examples:
  backstayctl config set-context prod --nats tls://nats.example:4222 --nats-credentials ops.creds
  backstayctl config use-context prod
  backstayctl config get-contexts
  backstayctl --context staging status";

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Show the contexts, without secrets
    #[command(after_help = "Examples:\n  backstayctl config get-contexts\n  backstayctl config get-contexts -o json")]
    GetContexts {
        /// Output format: table, yaml or json
        #[arg(short, long, default_value = "table", value_name = "FORMAT")]
        output: Form,
    },
    /// Set the current context
    #[command(after_help = "Examples:\n  backstayctl config use-context prod")]
    UseContext {
        /// Name of the context
        #[arg(value_name = "CONTEXT")]
        name: String,
    },
    /// Print the name of the current context
    #[command(after_help = "Examples:\n  backstayctl config current-context")]
    CurrentContext,
    /// Create a context, or change settings of an existing one
    #[command(after_help = "\
Pass the flags under \"Connection\" that are to be stored. Keep a password in a
separate file (--nats-user with --nats-password-file), or use a credentials
file.

Examples:
  backstayctl config set-context prod --nats nats://nats.example:4222 --nats-user ops --nats-password-file ops.password
  backstayctl config set-context prod --nats-ca nats-ca.crt")]
    SetContext {
        /// Name of the context
        #[arg(value_name = "CONTEXT", value_parser = model::name)]
        name: String,
    },
    /// Delete a context
    #[command(after_help = "Examples:\n  backstayctl config delete-context staging")]
    DeleteContext {
        /// Name of the context
        #[arg(value_name = "CONTEXT")]
        name: String,
    },
}
