//! Logs on stderr, as text or as JSON. `BACKSTAY_LOG` sets what is logged, as `RUST_LOG` does for other programs. It is
//! also the variable of the setting `log`, so it may be `text` or `json` instead.

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::JsonFields;

use crate::terminal::LogLines;

mod json;

/// The variable that sets what is logged.
pub const LEVEL_VARIABLE: &str = "BACKSTAY_LOG";

/// What is logged by default. The NATS client logs every failed attempt to connect; `crate::nats` logs the same with growing
/// pauses.
const FILTER: &str = "info,async_nats=warn,async_nats::connector=off,aws_config=warn";

/// How logs look: one line of text, or one JSON object in a line, for each event.
#[allow(missing_docs, reason = "clap would print the documentation of the variants in --help")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

impl LogFormat {
    /// The format with this name; `None` if there is none.
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

/// Sends logs to stderr. Works once in a process; a second call does nothing.
///
/// # Errors
/// `BACKSTAY_LOG` is invalid.
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

/// Sends only warnings to stderr, for a command whose output is its result. Works once in a process; a second call does
/// nothing.
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
