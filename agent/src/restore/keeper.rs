//! Saves the member list that etcd reports, so that a member whose etcd is dead can be restored.

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::member_identity::MemberIdentityStore;
use crate::etcd::poll::{PolledMember, Round};

/// Saves the result of each round, then passes it on, so that whoever is told about a member finds its list saved. The
/// list of the `unsettled` cluster, whose restore may still be undone, is not saved, since the next plan would be made
/// for it.
pub async fn keep(
    member_identity: &MemberIdentityStore,
    unsettled: impl Fn() -> Option<u64>,
    mut rounds: watch::Receiver<Round>,
    seen: &watch::Sender<PolledMember>,
    stop: &CancellationToken,
) {
    while let Some(Ok(())) = stop.run_until_cancelled(rounds.changed()).await {
        let round = rounds.borrow_and_update().clone();
        if let Some(Ok(member)) = &round.seen
            && unsettled() != Some(member.cluster_id)
        {
            member_identity.note(member, &round.members);
        }
        seen.send_replace(round.seen);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use backstay_protocol::bus::{ListedMember, Member};

    use super::*;
    use crate::restore::settings::RestoreSettings;
    use crate::state::StateDir;

    #[tokio::test]
    async fn the_list_is_kept_before_its_member_is_heard_of_but_for_a_cluster_that_may_be_put_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = StateDir::open(folder.path()).expect("fresh");
        let member_identity = MemberIdentityStore::open(&state, &RestoreSettings::default(), None);
        let (polled, rounds) = watch::channel(Round::default());
        let (seen, mut heard) = watch::channel(None);
        let (unsettled, stop) = (AtomicU64::new(0), CancellationToken::new());
        let keeping =
            keep(&member_identity, || Some(unsettled.load(Relaxed)).filter(|id| *id != 0), rounds, &seen, &stop);
        let playing = async {
            for (cluster, open, kept) in [(1, 0, 1), (2, 2, 1), (2, 0, 2)] {
                unsettled.store(open, Relaxed);
                let member = Member { cluster_id: cluster, ..Member::default() };
                let members = vec![ListedMember { id: cluster, ..ListedMember::default() }];
                polled.send_replace(Round { seen: Some(Ok(member.clone())), members });
                heard.changed().await.expect("it is passed on");
                assert_eq!(*heard.borrow_and_update(), Some(Ok(member)));
                let told = member_identity.message();
                assert_eq!((told.cluster_id, told.members[0].id), (kept, kept), "cluster {cluster}, {open} is open");
            }
            stop.cancel();
        };
        tokio::join!(keeping, playing);
    }
}
