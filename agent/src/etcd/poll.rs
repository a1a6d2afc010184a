//! Asks the member from time to time what it says of itself, apart from everything else: an etcd that hangs
//! delays nobody.

use std::time::Duration;

use backstay_protocol::bus::Member;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Connection, Etcd, EtcdError};

/// How long one round may take, the connection included.
const ROUND_TIMEOUT: Duration = Duration::from_secs(3);

/// The member as it was seen last, or why it was not; `None` before the first round.
pub type Seen = Option<Result<Member, String>>;

/// Asks every `period` until `stop`.
pub async fn poll(etcd: &Etcd, period: Duration, seen: &watch::Sender<Seen>, stop: &CancellationToken) {
    let mut connection = None;
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.cancelled() => return,
        }
        let asked = tokio::select! {
            result = timeout(ROUND_TIMEOUT, ask(etcd, &mut connection)) => result,
            () = stop.cancelled() => return,
        };
        let now = match asked {
            Ok(Ok(member)) => Ok(member),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("etcd did not answer within {}s", ROUND_TIMEOUT.as_secs())),
        };
        if now.is_err() {
            connection = None;
        }
        log_change(&seen.borrow(), &now);
        seen.send_replace(Some(now));
    }
}

async fn ask(etcd: &Etcd, connection: &mut Option<Connection>) -> Result<Member, EtcdError> {
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(etcd.connect().await?),
    };
    connection.member().await
}

fn log_change(before: &Seen, now: &Result<Member, String>) {
    match (before, now) {
        (Some(Ok(_)), Ok(_)) | (Some(Err(_)), Err(_)) => {}
        (_, Ok(member)) => {
            info!(version = member.etcd_version, member = format!("{:016x}", member.member_id), "etcd answers")
        }
        (_, Err(error)) => warn!(error, "etcd does not answer"),
    }
}
