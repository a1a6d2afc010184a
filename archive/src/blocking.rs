//! Work that blocks, where it delays nobody.

use tracing::Span;

/// Runs `work` on a thread of its own, inside the caller's span. A mount that hangs must not hang the threads that
/// everything else runs on.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let span = Span::current();
    match tokio::task::spawn_blocking(move || span.in_scope(work)).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            // Ours to go on with.
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only a runtime that ends cancels work that has not begun, and the caller with it.
            Err(_) => std::future::pending().await,
        },
    }
}
