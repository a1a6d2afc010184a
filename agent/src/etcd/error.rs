//! Errors between the agent and etcd, and the client's own errors in one line.

use std::time::Duration;

use backstay_snapshot::FrameError;

/// Why a call to etcd failed, or what is wrong with its answer.
#[derive(Debug, thiserror::Error)]
pub enum EtcdError {
    #[error("{0}")]
    Settings(String),
    #[error("cannot use the etcd {what} {path} ({set_by}): {cause}")]
    File { what: &'static str, path: String, set_by: &'static str, cause: String },
    #[error("no etcd answers at {endpoints}: {cause}")]
    Unreachable { endpoints: String, cause: String },
    #[error("failed to {call} of etcd at {endpoint}: {cause}")]
    Call { call: &'static str, endpoint: String, cause: String },
    #[error(
        "no linearizable read within {:.1}s: the member has no quorum or cannot reach its leader ({cause})",
        .after.as_secs_f32()
    )]
    NoQuorum { after: Duration, cause: String },
    #[error("{0}")]
    Unfit(String),
    #[error("the snapshot stream is stuck: no data for {seconds}s, after {read} bytes of {total}")]
    Stalled { seconds: u64, read: u64, total: String },
    #[error("{0}")]
    Frames(#[from] FrameError),
}

pub(super) fn too_long(patience: Duration) -> String {
    format!("no answer within {}s", patience.as_secs_f32())
}

pub(super) fn is_unavailable(error: &etcd_client::Error) -> bool {
    use tonic::Code::{Cancelled, DeadlineExceeded, Unavailable};
    matches!(error, etcd_client::Error::GRpcStatus(s) if matches!(s.code(), Unavailable | DeadlineExceeded | Cancelled))
}

/// The leader changed during the call.
pub(super) fn is_election(error: &etcd_client::Error) -> bool {
    matches!(error, etcd_client::Error::GRpcStatus(status) if status.message() == "etcdserver: leader changed")
}

/// An error of the client in one line, down to its last cause.
pub(super) fn describe(error: &etcd_client::Error) -> String {
    match error {
        etcd_client::Error::GRpcStatus(status) => {
            let text = match status.message() {
                "" => status.code().description().to_owned(),
                message => message.to_owned(),
            };
            with_causes(text, std::error::Error::source(status))
        }
        etcd_client::Error::TransportError(error) => with_causes(error.to_string(), std::error::Error::source(error)),
        other => other.to_string(),
    }
}

pub(super) fn with_causes(mut text: String, mut cause: Option<&dyn std::error::Error>) -> String {
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text.replace('\n', " ")
}
