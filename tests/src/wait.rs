//! Waiting for what tells nobody when it happens. Nothing else in the stand polls.

use std::time::Duration;

use anyhow::{Result, anyhow};
use tokio::time::{Instant, sleep, timeout_at};

const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// Calls `check` again and again until it succeeds; its value is the answer. After `deadline` the answer is an
/// error that shows why the last try failed.
pub async fn eventually<T, F, Fut>(deadline: Duration, mut check: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T>>,
{
    let end = Instant::now() + deadline;
    let mut pause = FIRST_PAUSE;
    let mut last: Option<anyhow::Error> = None;
    loop {
        match timeout_at(end, check()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => last = Some(error),
            Err(_) => last = last.or_else(|| Some(anyhow!("the first try did not come back"))),
        }
        if Instant::now() + pause >= end {
            let last = last.unwrap_or_else(|| anyhow!("no try was made"));
            return Err(last.context(format!("not within {deadline:?}; the last try said")));
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_success_is_the_answer() {
        let mut tries = 0;
        let value = eventually(Duration::from_secs(5), || {
            tries += 1;
            let now = tries;
            async move { if now < 4 { Err(anyhow!("only {now}")) } else { Ok(now) } }
        });
        assert_eq!(value.await.expect("the fourth try succeeds"), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_error_is_shown() {
        let error = eventually::<(), _, _>(Duration::from_secs(1), || async { Err(anyhow!("still closed")) }).await;
        let text = format!("{:#}", error.expect_err("it never succeeds"));
        assert!(text.contains("within 1s") && text.contains("still closed"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_try_that_hangs_ends_at_the_deadline() {
        let error = eventually::<(), _, _>(Duration::from_secs(1), std::future::pending).await;
        assert!(error.is_err());
    }
}
