//! Arguments and help of `config`: named connections.

use clap::Subcommand;

use super::operate::Form;
use crate::contexts::model;

pub const CONFIG_HELP: &str = "\
A context is a named connection to NATS. Contexts are kept in a file that only you can
read: $BACKSTAYCTL_CONFIG, or else $XDG_CONFIG_HOME/backstay/config.toml, or else
~/.config/backstay/config.toml.

What counts for each setting: flags (also --context), then the environment, then the
current context, then the default.

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
        /// table, yaml or json
        #[arg(short, long, default_value = "table", value_name = "FORMAT")]
        output: Form,
    },
    /// Choose the context that is used from now on
    #[command(after_help = "Examples:\n  backstayctl config use-context prod")]
    UseContext {
        /// The context
        #[arg(value_name = "CONTEXT")]
        name: String,
    },
    /// Print the name of the context that is in use
    #[command(after_help = "Examples:\n  backstayctl config current-context")]
    CurrentContext,
    /// Create a context, or change what is given of one
    #[command(after_help = "\
Takes the flags under \"Connection\". A password is best kept in a file of its own
(--nats-user with --nats-password-file) or in a credentials file.

Examples:
  backstayctl config set-context prod --nats nats://nats.example:4222 --nats-user ops --nats-password-file ops.password
  backstayctl config set-context prod --nats-ca nats-ca.crt")]
    SetContext {
        /// The context
        #[arg(value_name = "CONTEXT", value_parser = model::name)]
        name: String,
    },
    /// Delete a context
    #[command(after_help = "Examples:\n  backstayctl config delete-context staging")]
    DeleteContext {
        /// The context
        #[arg(value_name = "CONTEXT")]
        name: String,
    },
}
