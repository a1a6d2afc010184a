//! Asks the member from time to time what it says of itself, apart from everything else: an etcd that hangs
//! delays nobody.

use std::sync::Arc;
use std::time::Duration;

use backstay_daemon::trouble::Trouble;
use backstay_protocol::bus::Member;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{Connection, Etcd, EtcdError};
use crate::restore::desk::Restores;
use crate::restore::seat::Seats;

/// How long one round may take, the connection included.
const ROUND_TIMEOUT: Duration = Duration::from_secs(3);

/// Members change rarely; from etcd 3.5 on the list costs a round among them.
const LIST_PAUSE: Duration = Duration::from_secs(30);

/// The member as it was seen last, or why it was not; `None` before the first round.
pub type Seen = Option<Result<Member, String>>;

/// Who keeps the member list, and who knows whether it is to be kept.
pub struct Keepers {
    pub seats: Arc<Seats>,
    pub restores: Arc<Restores>,
}

/// Asks every `period` until `stop`.
pub async fn poll(
    etcd: &Etcd,
    period: Duration,
    seen: &watch::Sender<Seen>,
    keepers: &Keepers,
    stop: &CancellationToken,
) {
    let mut connection = None;
    let mut listed = None;
    let mut trouble = Trouble::default();
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
        if let (Ok(member), Some(connection)) = (&now, &mut connection) {
            list(connection, member, keepers, &mut listed).await;
        }
        log_change(&seen.borrow(), &now, &mut trouble);
        seen.send_replace(Some(now));
    }
}

/// Asks for the member list once in a while, and when the member is another one than before. That of a cluster which
/// may still be put back is not kept: the next plan would be made for it.
async fn list(
    connection: &mut Connection,
    member: &Member,
    keepers: &Keepers,
    listed: &mut Option<(u64, u64, Instant)>,
) {
    let fresh = |(cluster, id, at): &(u64, u64, Instant)| {
        (*cluster, *id) == (member.cluster_id, member.member_id) && at.elapsed() < LIST_PAUSE
    };
    if listed.as_ref().is_some_and(fresh) || keepers.restores.unsettled_cluster() == Some(member.cluster_id) {
        return;
    }
    match timeout(ROUND_TIMEOUT, connection.members()).await {
        Ok(Ok(members)) => {
            keepers.seats.note(member, &members);
            *listed = Some((member.cluster_id, member.member_id, Instant::now()));
        }
        Ok(Err(error)) => debug!(%error, "the member list is as it was last known"),
        Err(_) => debug!("the member list is as it was last known"),
    }
}

async fn ask(etcd: &Etcd, connection: &mut Option<Connection>) -> Result<Member, EtcdError> {
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(etcd.connect().await?),
    };
    connection.member().await
}

fn log_change(before: &Seen, now: &Result<Member, String>, trouble: &mut Trouble) {
    match now {
        Ok(member) => {
            let lasted = trouble.over();
            if lasted.is_some() || before.is_none() {
                let id = format!("{:016x}", member.member_id);
                info!(version = member.etcd_version, member = id, silent = lasted, "etcd answers");
            }
        }
        Err(error) => {
            if let Some(told) = trouble.note(error) {
                warn!(error, lasting = told.lasting, "etcd does not answer");
            }
        }
    }
}
