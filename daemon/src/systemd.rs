//! Notifications to systemd. Without systemd, nothing happens.

use sd_notify::NotifyState;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// The daemon is running.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The daemon has begun to stop.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Notifies systemd's watchdog twice in each of its periods until `stop` is cancelled, to show that tasks still run.
/// Returns at once if there is no watchdog.
pub async fn watchdog(stop: &CancellationToken) {
    let Some(period) = sd_notify::watchdog_enabled().filter(|period| !period.is_zero()) else { return };
    let mut ticks = tokio::time::interval(period / 2);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        tell(&[NotifyState::Watchdog]);
    }
}

fn tell(states: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(states) {
        debug!(%error, "could not notify systemd");
    }
}
