//! The two JetStream streams: created if they are missing, used as they are if they exist; and what to change if JetStream
//! refuses.

use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{CreateStreamError, CreateStreamErrorKind};
use async_nats::jetstream::stream::{Config, DiscardPolicy, StorageType, Stream};
use backstay_protocol::subject;
use tracing::{info, warn};

use super::error::KvError;
use crate::config::JetStreamSettings;

/// The bucket's name.
pub const BUCKET: &str = "backstay";
/// The stream of reports.
pub const REPORTS: &str = "BACKSTAY_REPORTS";
/// The most bytes of an entry of the bucket.
pub const ENTRY_BYTES_MAX: i32 = 512 * 1024;

/// How long reports are kept at most; the coordinator usually reads them within seconds.
const REPORT_AGE_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// The stream itself drops a report that is repeated within this time.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(600);
/// The size of a stream by default, in bytes. A cluster's record has about 20 KiB, a report less than 1 KiB.
const BYTES: u64 = 256 * 1024 * 1024;
/// If an account has less room, the size is halved until it fits, down to this.
const BYTES_MIN: u64 = 4 * 1024 * 1024;

/// A stream as it should be.
#[derive(Debug, Clone)]
pub struct StreamSpec {
    config: Config,
    /// The size in the settings, in bytes.
    set: Option<u64>,
    /// The key of the setting.
    key: &'static str,
}

/// The stream of the KV bucket.
///
/// `create_key_value` is not used, since it needs an answer about the account that nats-server 2.9 does not give.
pub fn bucket(settings: &JetStreamSettings) -> StreamSpec {
    let config = Config {
        name: format!("KV_{BUCKET}"),
        subjects: vec![format!("$KV.{BUCKET}.>")],
        max_messages_per_subject: 1,
        max_message_size: ENTRY_BYTES_MAX,
        storage: StorageType::File,
        num_replicas: settings.replicas,
        discard: DiscardPolicy::New,
        allow_rollup: true,
        deny_delete: true,
        // Any replica may answer a direct get, also one that is behind.
        allow_direct: false,
        ..Config::default()
    };
    StreamSpec { config, set: settings.kv_max_bytes, key: "kv_max_bytes" }
}

/// The stream of reports.
pub fn reports(settings: &JetStreamSettings) -> StreamSpec {
    let config = Config {
        name: REPORTS.into(),
        subjects: vec![subject::all_reports()],
        max_age: REPORT_AGE_MAX,
        duplicate_window: DUPLICATE_WINDOW,
        storage: StorageType::File,
        num_replicas: settings.replicas,
        discard: DiscardPolicy::Old,
        ..Config::default()
    };
    StreamSpec { config, set: settings.reports_max_bytes, key: "reports_max_bytes" }
}

/// Opens the stream. One that exists keeps its configuration, except for a size in the settings.
///
/// A size is always given, since some accounts demand one. If the settings have none, it depends on the room in the
/// account.
pub async fn open(context: &Context, spec: StreamSpec) -> Result<(), KvError> {
    let mut bytes = spec.set.unwrap_or(BYTES);
    loop {
        let config = Config { max_bytes: signed(bytes), ..spec.config.clone() };
        match context.get_or_create_stream(config).await {
            Ok(stream) => {
                resize(context, &stream, &spec).await;
                return Ok(());
            }
            Err(error) if spec.set.is_none() && is_too_much(&error) && bytes / 2 >= BYTES_MIN => bytes /= 2,
            Err(error) => {
                let (stream, cause) = (spec.config.name.clone(), in_words(&error, bytes, spec.key));
                return Err(KvError::Stream { stream, cause });
            }
        }
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// A stream that cannot be changed is used as it is.
async fn resize(context: &Context, stream: &Stream, spec: &StreamSpec) {
    let config = &stream.cached_info().config;
    let Some(bytes) = spec.set.map(signed).filter(|bytes| *bytes != config.max_bytes) else { return };
    let (stream, key) = (&config.name, spec.key);
    match context.update_stream(Config { max_bytes: bytes, ..config.clone() }).await {
        Ok(_) => info!(stream, key, bytes, "changed the size of the stream to the configured one"),
        Err(error) => {
            let bytes = spec.set.unwrap_or(BYTES);
            let cause = in_words(&error, bytes, key);
            warn!(stream, cause, "could not change the size of the stream");
        }
    }
}

/// What JetStream itself said.
fn refusal(error: &CreateStreamError) -> Option<ErrorCode> {
    match error.kind() {
        CreateStreamErrorKind::JetStream(error) => Some(error.error_code()),
        _ => None,
    }
}

/// The account or the server has less room than was asked for.
fn is_too_much(error: &CreateStreamError) -> bool {
    refusal(error).is_some_and(|code| SIZES.contains(&code))
}

const SIZES: [ErrorCode; 5] = [
    ErrorCode::ACCOUNT_RESOURCES_EXCEEDED,
    ErrorCode::INSUFFICIENT_RESOURCES,
    ErrorCode::STORAGE_RESOURCES_EXCEEDED,
    ErrorCode::MEMORY_RESOURCES_EXCEEDED,
    ErrorCode::STREAM_MAX_STREAM_BYTES_EXCEEDED,
];

/// The cause, and which setting to change.
fn in_words(error: &CreateStreamError, bytes: u64, key: &str) -> String {
    let advice = match (error.kind(), refusal(error)) {
        (CreateStreamErrorKind::JetStreamUnavailable, _) => {
            return "JetStream is disabled, or this user may not use it: start nats-server with -js, or put `jetstream \
                {}` into its configuration and `jetstream: enabled` into the account"
                .into();
        }
        (CreateStreamErrorKind::TimedOut, _) => {
            return "JetStream does not answer: check nats-server's log, and that this user may publish to $JS.API.>"
                .into();
        }
        (_, Some(ErrorCode::JETSTREAM_NOT_ENABLED | ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT)) => {
            "put `jetstream: enabled` into the account that the coordinator's user belongs to".to_owned()
        }
        (_, Some(ErrorCode::STREAM_REPLICAS_NOT_SUPPORTED | ErrorCode::CLUSTER_NO_PEERS)) => {
            "[jetstream] replicas must not exceed the number of servers in the NATS cluster".to_owned()
        }
        (_, Some(code)) if SIZES.contains(&code) => {
            format!("{bytes} bytes were requested: lower [jetstream] {key}, or raise the limit of the account")
        }
        _ => return error.to_string(),
    };
    format!("{error}: {advice}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_off_is_said_with_what_to_set() {
        let off = CreateStreamError::new(CreateStreamErrorKind::JetStreamUnavailable);
        let text = in_words(&off, 1, "kv_max_bytes");
        assert!(text.contains("JetStream is disabled") && text.contains("-js"), "{text}");
        assert!(!is_too_much(&off));
    }
}
