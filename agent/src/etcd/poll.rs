//! Queries the member's status from time to time, in a task of its own, so that an etcd that hangs delays nothing else.

use std::time::Duration;

use backstay_daemon::trouble::Trouble;
use backstay_protocol::bus::{ListedMember, Member};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{Connection, Etcd, EtcdError};

/// How long one round may take, the connection included.
const ROUND_TIMEOUT: Duration = Duration::from_secs(3);

/// How often the member list is requested: it changes rarely, and from etcd 3.5 on it needs a round of raft.
const LIST_PAUSE: Duration = Duration::from_secs(30);

/// The member's last status, or why there is none; `None` before the first round.
pub type PolledMember = Option<Result<Member, String>>;

/// The result of each round, for subscribers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Round {
    pub seen: PolledMember,
    /// The last member list from this member; empty while there is none.
    pub members: Vec<ListedMember>,
}

/// Asks every `period` until `stop`.
pub async fn poll(etcd: &Etcd, period: Duration, rounds: &watch::Sender<Round>, stop: &CancellationToken) {
    let mut connection = None;
    let mut list = List::default();
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
            list.refresh(member, connection).await;
        }
        log_change(&rounds.borrow().seen, &now, &mut trouble);
        rounds.send_replace(Round { seen: Some(now), members: list.members.clone() });
    }
}

/// The member list, and from which member it is.
#[derive(Default)]
struct List {
    /// Cluster and member.
    of: (u64, u64),
    members: Vec<ListedMember>,
    at: Option<Instant>,
}

impl List {
    /// Requests it now and then, and when the member is another one than before, since the old list then says nothing.
    async fn refresh(&mut self, member: &Member, connection: &mut Connection) {
        let of = (member.cluster_id, member.member_id);
        if self.of != of {
            *self = Self { of, ..Self::default() };
        }
        if self.at.is_some_and(|at| at.elapsed() < LIST_PAUSE) {
            return;
        }
        match timeout(ROUND_TIMEOUT, connection.members()).await {
            Ok(Ok(members)) => (self.members, self.at) = (members, Some(Instant::now())),
            Ok(Err(error)) => debug!(%error, "could not refresh the member list; using the last known one"),
            Err(_) => debug!("could not refresh the member list; using the last known one"),
        }
    }
}

async fn ask(etcd: &Etcd, connection: &mut Option<Connection>) -> Result<Member, EtcdError> {
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(etcd.connect().await?),
    };
    connection.member().await
}

fn log_change(before: &PolledMember, now: &Result<Member, String>, trouble: &mut Trouble) {
    match now {
        Ok(member) => {
            let lasted = trouble.over();
            if lasted.is_some() || before.is_none() {
                let id = format!("{:016x}", member.member_id);
                info!(version = member.etcd_version, member = id, silent = lasted, "etcd is answering");
            }
        }
        Err(error) => {
            if let Some(told) = trouble.note(error) {
                warn!(error, lasting = told.lasting, "etcd does not answer");
            }
        }
    }
}
