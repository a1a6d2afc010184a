//! Logs on stderr, as text or as JSON; `BACKSTAY_LOG` sets what is logged, as `RUST_LOG` does elsewhere.

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::JsonFields;

mod json;

/// The variable that says what is logged; not a setting.
pub const LEVEL_VARIABLE: &str = "BACKSTAY_LOG";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// Sends what is logged to stderr. Once in a process; a second call does nothing.
pub fn init(format: LogFormat) {
    let filter = EnvFilter::try_from_env(LEVEL_VARIABLE)
        .unwrap_or_else(|_| EnvFilter::new("info,async_nats=warn,aws_config=warn"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second initialisation (tests run daemons in process) is not an error.
    let _ = match format {
        LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.fmt_fields(JsonFields::new()).event_format(json::Lines).try_init(),
    };
}
