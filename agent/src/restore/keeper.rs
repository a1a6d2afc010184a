//! Keeps the member list that etcd tells, so that a member that is dead can be restored.

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::desk::Restores;
use super::seat::Seats;
use crate::etcd::poll::{Round, Seen};

/// Keeps what each round found, then passes on what was seen: who hears of a member finds its list in the seats. The list of
/// a cluster which may still be put back is not kept: the next plan would be made for it.
pub async fn keep(
    seats: &Seats,
    restores: &Restores,
    mut rounds: watch::Receiver<Round>,
    seen: &watch::Sender<Seen>,
    stop: &CancellationToken,
) {
    while let Some(Ok(())) = stop.run_until_cancelled(rounds.changed()).await {
        let round = rounds.borrow_and_update().clone();
        if let Some(Ok(member)) = &round.seen
            && restores.unsettled_cluster() != Some(member.cluster_id)
        {
            seats.note(member, &round.members);
        }
        seen.send_replace(round.seen);
    }
}
