//! Logs on stderr, as text or as JSON; `BACKSTAY_LOG` sets what is logged, as `RUST_LOG` does elsewhere, or, being
//! the variable of the setting `log` as well, how.

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::JsonFields;

use crate::terminal::LogLines;

mod json;

/// The variable that says what is logged.
pub const LEVEL_VARIABLE: &str = "BACKSTAY_LOG";

/// What is logged where nobody says.
const FILTER: &str = "info,async_nats=warn,aws_config=warn";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

impl LogFormat {
    /// The format of this name.
    pub fn named(name: &str) -> Option<Self> {
        <Self as clap::ValueEnum>::from_str(name, false).ok()
    }
}

/// `BACKSTAY_LOG` is neither a format nor a filter.
#[derive(Debug, thiserror::Error)]
#[error("{LEVEL_VARIABLE} must be text, json, or log levels such as debug or info,backstay_agent=debug: {0}")]
pub struct FilterError(String);

fn filter(variable: Option<&str>) -> Result<EnvFilter, FilterError> {
    match variable {
        Some(said) if !said.is_empty() && LogFormat::named(said).is_none() => {
            EnvFilter::try_new(said).map_err(|cause| FilterError(cause.to_string()))
        }
        _ => Ok(EnvFilter::new(FILTER)),
    }
}

/// Sends what is logged to stderr. Once in a process; a second call does nothing.
///
/// # Errors
/// `BACKSTAY_LOG` cannot be used.
pub fn init(format: LogFormat) -> Result<(), FilterError> {
    let filter = filter(std::env::var(LEVEL_VARIABLE).ok().as_deref())?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(LogLines::default);
    // A second initialisation (tests run daemons in process) is not an error.
    let _ = match format {
        LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.fmt_fields(JsonFields::new()).event_format(json::Lines).try_init(),
    };
    Ok(())
}

/// Sends what a person should know to stderr, for a command of which the outcome is all that is asked for. Once in a
/// process; a second call does nothing.
pub fn init_warnings() {
    let filter = EnvFilter::new("off,backstay_agent=warn,backstay_archive=warn");
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(LogLines::default);
    // Where something logs already, that is said there.
    let _ = builder.with_ansi(false).without_time().with_target(false).try_init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_variable_says_how_or_what() {
        let shown = |variable| filter(variable).map(|f| f.to_string()).map_err(|e| e.to_string());
        let default = shown(None).expect("the default");
        for said in ["", "json", "text"] {
            assert_eq!(shown(Some(said)), Ok(default.clone()));
        }
        assert_eq!(shown(Some("debug")), Ok("debug".into()));
        let error = shown(Some("info,backstay_agent=loud")).expect_err("no level");
        assert!(error.starts_with("BACKSTAY_LOG must be text, json, or log levels"), "{error}");
    }
}
