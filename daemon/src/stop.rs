//! SIGTERM and SIGINT as one cancellation token.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::info;

/// A token that is cancelled at the first SIGTERM or SIGINT. The task that listens is one of `tasks` and ends with the
/// token.
///
/// # Errors
/// The process cannot listen to signals.
pub fn on_signal(tasks: &TaskTracker) -> std::io::Result<CancellationToken> {
    let token = CancellationToken::new();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let cancel = token.clone();
    tasks.spawn(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
            () = cancel.cancelled() => return,
        };
        info!(signal = name, "stopping");
        cancel.cancel();
    });
    Ok(token)
}
