//! What systemd is told; nothing happens where there is no systemd.

use sd_notify::NotifyState;
use tracing::debug;

/// The daemon is up and does its work.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The daemon has begun to stop.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(states: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(states) {
        debug!(%error, "systemd was not told");
    }
}
