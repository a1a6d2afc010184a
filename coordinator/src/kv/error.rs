//! Why a call to the KV failed.

/// What went wrong between the coordinator and JetStream.
#[derive(Debug, thiserror::Error)]
pub enum KvError {
    #[error("{key} was changed by someone else")]
    Conflict { key: String },
    #[error("{action} {key}: {cause}")]
    Failed { action: &'static str, key: String, cause: String },
    #[error("{key} in the KV cannot be parsed: {cause}")]
    Malformed { key: String, cause: String },
    #[error("cannot open the stream {stream}: {cause}")]
    Stream { stream: String, cause: String },
}

/// A call that failed, with advice if the KV is full.
pub(super) fn failed(action: &'static str, key: &str, cause: impl std::fmt::Display) -> KvError {
    let mut cause = cause.to_string();
    if cause.contains("maximum bytes exceeded") {
        cause.push_str(": the KV is full; raise [jetstream] kv_max_bytes");
    }
    KvError::Failed { action, key: key.into(), cause }
}
