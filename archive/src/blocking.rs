//! Runs blocking work on threads where it delays nothing else.

use tracing::Span;

/// Runs `work` on a thread of its own, inside the caller's tracing span, and waits for it. A mount that hangs must
/// not block the threads that run everything else. A panic of `work` continues in the caller.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let span = Span::current();
    match tokio::task::spawn_blocking(move || span.in_scope(work)).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            // The panic is the caller's to handle.
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only a runtime that shuts down cancels work that has not begun, and it cancels the caller, too.
            Err(_) => std::future::pending().await,
        },
    }
}
