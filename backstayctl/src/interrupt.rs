//! Ctrl-C while a command follows work that continues without it.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// Ctrl-C as an event. Until something waits for it, Ctrl-C ends the process as usual.
#[derive(Debug, Clone, Default)]
pub enum Interrupts {
    /// The SIGINT of this process.
    #[default]
    Process,
    /// A token of a test.
    Token(CancellationToken),
}

impl Interrupts {
    /// Returns at the next Ctrl-C.
    pub async fn next(self) {
        match self {
            Self::Process => {
                if tokio::signal::ctrl_c().await.is_err() {
                    // Nobody can listen: Ctrl-C ends the process.
                    std::future::pending::<()>().await;
                }
            }
            Self::Token(token) => token.cancelled().await,
        }
    }
}

/// How following the work ended.
#[derive(Debug)]
pub enum Ended<T> {
    Done(T),
    TimedOut,
    Interrupted,
}

/// Follows work to its end, for at most `wait`, or until Ctrl-C.
pub async fn follow<T>(interrupts: Interrupts, wait: Duration, end: impl Future<Output = T>) -> Ended<T> {
    tokio::select! {
        biased;
        done = end => Ended::Done(done),
        () = interrupts.next() => Ended::Interrupted,
        () = tokio::time::sleep(wait) => Ended::TimedOut,
    }
}
