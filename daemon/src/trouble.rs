//! Lasting trouble in the log: it is logged at once, then again with growing pauses, and its end once.
//!
//! A loop that tries again every second would fill the log with the same line. Such a loop asks here whether to log
//! something; the text is up to the caller.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backstay_protocol::duration;
use tokio::time::Instant;

/// The pause before the first reminder; each further pause is twice as long.
const PAUSE_MIN: Duration = Duration::from_secs(60);
const PAUSE_MAX: Duration = Duration::from_secs(3600);
/// How many different causes are logged at once between two reminders: a cause that is different every time is not news.
const CAUSES_MAX: usize = 4;
/// How many names [`Troubles`] remembers at most.
const NAMES_MAX: usize = 1024;

/// One thing that may go wrong again and again.
#[derive(Debug, Default)]
pub struct Trouble(Option<State>);

#[derive(Debug)]
struct State {
    since: Instant,
    /// Logged since the last reminder.
    causes: Vec<String>,
    pause: Duration,
    due: Instant,
    /// The last message in the log is that there is trouble.
    open: bool,
    /// Trouble that comes back soon after its end is the same trouble.
    ended: Option<Instant>,
}

/// There is something to log now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// How long the trouble has lasted, such as `3m0s`; `None` if it has just begun.
    pub lasting: Option<String>,
}

impl Trouble {
    /// It went wrong (again), for this reason. `None` if the log has this already.
    pub fn note(&mut self, cause: &str) -> Option<Notice> {
        let now = Instant::now();
        let long_over = |state: &State| state.ended.is_some_and(|at| now.duration_since(at) >= PAUSE_MIN);
        match &mut self.0 {
            Some(state) if !long_over(state) => state.again(cause, now),
            state => {
                let (causes, pause) = (vec![cause.to_owned()], PAUSE_MIN);
                *state = Some(State { since: now, causes, pause, due: now + pause, open: true, ended: None });
                Some(Notice { lasting: None })
            }
        }
    }

    /// It went well. Returns how long the trouble lasted if that should be logged.
    pub fn over(&mut self) -> Option<String> {
        let (state, now) = (self.0.as_mut().filter(|state| state.ended.is_none())?, Instant::now());
        // One that comes and goes is told of once a minute at most, and one that comes to stay within a minute.
        (state.ended, state.pause, state.due) = (Some(now), PAUSE_MIN, state.due.min(now + PAUSE_MIN));
        std::mem::take(&mut state.open).then(|| state.lasted(now))
    }

    fn is_over(&self) -> bool {
        self.0.as_ref().is_none_or(|state| state.ended.is_some())
    }
}

impl State {
    fn again(&mut self, cause: &str, now: Instant) -> Option<Notice> {
        self.ended = None;
        if now >= self.due {
            self.pause = (self.pause * 2).min(PAUSE_MAX);
            (self.due, self.causes) = (now + self.pause, vec![cause.to_owned()]);
        } else if self.causes.len() < CAUSES_MAX && !self.causes.iter().any(|told| told == cause) {
            self.causes.push(cause.to_owned());
        } else {
            return None;
        }
        self.open = true;
        Some(Notice { lasting: Some(self.lasted(now)) })
    }

    fn lasted(&self, now: Instant) -> String {
        duration::format(Duration::from_secs(now.duration_since(self.since).as_secs()))
    }
}

/// The same for many things, each with a name: machines, clusters.
#[derive(Debug, Default)]
pub struct Troubles(HashMap<String, Trouble>);

impl Troubles {
    /// As [`Trouble::note`].
    pub fn note(&mut self, name: &str, cause: &str) -> Option<Notice> {
        if self.0.len() >= NAMES_MAX && !self.0.contains_key(name) {
            self.0.retain(|_, trouble| !trouble.is_over());
            if self.0.len() >= NAMES_MAX {
                self.0.clear();
            }
        }
        self.0.entry(name.to_owned()).or_default().note(cause)
    }

    /// As [`Trouble::over`].
    pub fn over(&mut self, name: &str) -> Option<String> {
        self.0.get_mut(name)?.over()
    }
}

/// The same for several tasks at once.
#[derive(Debug, Default)]
pub struct Shared(Mutex<Troubles>);

impl Shared {
    /// As [`Trouble::note`].
    pub fn note(&self, name: &str, cause: &str) -> Option<Notice> {
        self.lock().note(name, cause)
    }

    /// As [`Trouble::over`], without the duration.
    pub fn over(&self, name: &str) {
        self.lock().over(name);
    }

    fn lock(&self) -> MutexGuard<'_, Troubles> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    const SECOND: Duration = Duration::from_secs(1);

    fn lasting(text: &str) -> Option<Notice> {
        Some(Notice { lasting: Some(text.into()) })
    }

    /// The seconds at which something is said while it goes wrong every second.
    async fn said(trouble: &mut Trouble, seconds: u64) -> Vec<u64> {
        let mut said = Vec::new();
        for second in 0..seconds {
            if trouble.note("away").is_some() {
                said.push(second);
            }
            advance(SECOND).await;
        }
        said
    }

    #[tokio::test(start_paused = true)]
    async fn what_lasts_is_told_with_growing_pauses_of_an_hour_at_most() {
        let mut trouble = Trouble::default();
        let minutes: Vec<u64> = said(&mut trouble, 4 * 3600).await.into_iter().map(|second| second / 60).collect();
        assert_eq!(minutes, [0, 1, 3, 7, 15, 31, 63, 123, 183]);
        assert_eq!(trouble.over(), Some("4h0m0s".into()));
        assert_eq!(trouble.over(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn another_cause_is_told_at_once_but_not_a_new_one_each_time() {
        let mut trouble = Trouble::default();
        assert_eq!(trouble.note("refused"), Some(Notice { lasting: None }));
        advance(5 * SECOND).await;
        assert_eq!((trouble.note("refused"), trouble.note("full")), (None, lasting("5s")));
        assert_eq!((trouble.note("refused"), trouble.note("full")), (None, None), "both are known");
        let told = (0..50).filter(|n| trouble.note(&format!("request {n}")).is_some()).count();
        assert_eq!(told, CAUSES_MAX - 2);
        advance(PAUSE_MIN).await;
        assert_eq!(trouble.note("refused"), lasting("1m5s"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_and_goes_is_told_once_a_minute_at_most() {
        let (mut trouble, mut lines) = (Trouble::default(), 0);
        for _ in 0..600 {
            lines += usize::from(trouble.note("away").is_some());
            lines += usize::from(trouble.over().is_some());
            advance(SECOND).await;
        }
        assert!((18..=22).contains(&lines), "{lines} lines in ten minutes");
        // After a quiet time it is a new one.
        advance(PAUSE_MIN).await;
        assert_eq!(trouble.note("away"), Some(Notice { lasting: None }));
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_back_to_stay_is_told_within_a_minute_however_long_it_lasted_before() {
        let mut trouble = Trouble::default();
        said(&mut trouble, 10 * 3600).await;
        assert!(trouble.over().is_some());
        advance(SECOND).await;
        let again = said(&mut trouble, 120).await;
        assert!(again.first().is_some_and(|second| *second <= 60), "{again:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn each_name_has_trouble_of_its_own_and_names_are_bounded() {
        let mut troubles = Troubles::default();
        assert!(troubles.note("a", "x").is_some() && troubles.note("b", "x").is_some());
        assert!(troubles.note("a", "x").is_none());
        assert_eq!((troubles.over("a"), troubles.over("c")), (Some("0s".into()), None));
        for n in 0..3 * NAMES_MAX {
            troubles.note(&n.to_string(), "x");
        }
        assert!(troubles.0.len() <= NAMES_MAX);
    }
}
