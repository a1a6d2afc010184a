//! Sends beats ("I am here") and how far the attempt is.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use async_nats::Client;
use async_nats::client::PublishErrorKind;
use async_nats::connection::State;
use backstay_daemon::trouble::Shared;
use backstay_protocol::bus::{self, Beat, Member};
use backstay_protocol::subject::Subject;
use backstay_protocol::{Clock, VERSION};
use prost::Message;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::attempt::{Address, Attempts};
use crate::etcd::poll::PolledMember;
use crate::restore::Restores;
use crate::restore::member_identity::MemberIdentityStore;

/// How often progress is sent while an attempt runs, and how soon a new connection is noticed.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// How long to wait until such a message is sent; it may be lost.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(1);

/// What every beat contains, and where the rest comes from.
pub struct Beats {
    pub client: Client,
    pub address: Address,
    /// The public half of the agent's identity.
    pub recipient: String,
    /// The machine's host name; empty if it is not known.
    pub host: String,
    pub started_at_ms: i64,
    pub interval: Duration,
    pub clock: Arc<dyn Clock>,
    pub attempts: Arc<Attempts>,
    pub member: watch::Receiver<PolledMember>,
    pub member_identity: Arc<MemberIdentityStore>,
    pub restores: Arc<Restores>,
    /// What was logged about messages that cannot be sent.
    pub told: Shared,
}

impl Beats {
    /// Sends a beat in every interval, and immediately when NATS is connected (again) or the member's state has
    /// changed.
    pub async fn run(mut self, stop: &CancellationToken) {
        let mut ticks = interval(self.interval.min(PROGRESS_INTERVAL));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut connects, mut due) = (0, Instant::now());
        let mut shown = None;
        let mut told = Instant::now();
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                Ok(()) = self.member.changed() => {}
                () = stop.cancelled() => return,
            }
            // A beat that waits for a connection would tell the past as the present.
            if self.client.connection_state() != State::Connected {
                continue;
            }
            let (seen, now) = (self.client.statistics().connects.load(Relaxed), Instant::now());
            let state = state_of(&self.member.borrow_and_update());
            if seen != connects || now >= due || state != shown {
                self.beat().await;
                (connects, due, shown) = (seen, now + self.interval, state);
            }
            if now.duration_since(told) >= PROGRESS_INTERVAL {
                told = now;
                self.progress().await;
            }
        }
    }

    async fn beat(&self) {
        let Address { cluster, machine } = self.address.clone();
        self.publish(Subject::Beat { cluster, machine }, self.message().encode_to_vec()).await;
    }

    fn message(&self) -> Beat {
        let running = self.attempts.running();
        let (member, etcd_error) = match &*self.member.borrow() {
            Some(Ok(member)) => (Some(member.clone()), String::new()),
            Some(Err(error)) => (None, bus::clipped(error)),
            None => (None, "etcd has not answered yet".into()),
        };
        Beat {
            version: VERSION,
            cluster: self.address.cluster.to_string(),
            machine: self.address.machine.to_string(),
            agent_version: crate::VERSION.to_owned(),
            recipient: self.recipient.clone(),
            started_at_ms: self.started_at_ms,
            attempt: running.as_ref().map(|r| r.attempt.to_string()).unwrap_or_default(),
            progress: running.as_ref().map(|r| r.message()),
            member,
            etcd_error,
            beat_interval_ms: u32::try_from(self.interval.as_millis()).unwrap_or(u32::MAX),
            seat: Some(self.member_identity.message()),
            restore: self.restores.state(),
            sent_at_ms: self.clock.now().as_millis(),
            host: self.host.clone(),
        }
    }

    async fn progress(&self) {
        let Some(running) = self.attempts.running() else { return };
        let Address { cluster, machine } = self.address.clone();
        self.publish(Subject::Progress { cluster, machine }, running.message().encode_to_vec()).await;
    }

    async fn publish(&self, subject: Subject, payload: Vec<u8>) {
        match timeout(PUBLISH_TIMEOUT, self.client.publish(subject.to_string(), payload.into())).await {
            Ok(Ok(())) => self.told.over(&subject.to_string()),
            // The next one will be as large.
            Ok(Err(error)) if error.kind() == PublishErrorKind::MaxPayloadExceeded => {
                if let Some(told) = self.told.note(&subject.to_string(), &error.kind().to_string()) {
                    let advice = "raise max_payload in nats-server's configuration";
                    warn!(%subject, %error, lasting = told.lasting, advice, "not sent: the message is larger than NATS \
                        allows");
                }
            }
            Ok(Err(error)) => debug!(%error, %subject, "not sent"),
            Err(_) => debug!(%subject, "not sent in time"),
        }
    }
}

/// What the coordinator uses to choose a member: when this changes, it should be told immediately.
fn state_of(seen: &PolledMember) -> Option<Result<Member, ()>> {
    let member = seen.as_ref()?.as_ref().map_err(|_| ());
    Some(member.map(|m| Member { db_size: 0, revision: 0, raft_index: 0, raft_applied_index: 0, ..m.clone() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_matters_for_the_choice_is_a_change() {
        let member = Member { member_id: 1, leader_id: 1, revision: 7, ..Member::default() };
        let later = Member { revision: 8, raft_index: 9, ..member.clone() };
        let follower = Member { leader_id: 2, ..member.clone() };
        let state = |member: &Member| state_of(&Some(Ok(member.clone())));
        assert_eq!(state(&member), state(&later));
        assert_ne!(state(&member), state(&follower));
        assert_ne!(state(&member), state_of(&Some(Err("away".into()))));
        assert_eq!(state_of(&Some(Err("a".into()))), state_of(&Some(Err("b".into()))));
        assert_ne!(state_of(&None), state_of(&Some(Err("a".into()))));
    }
}
