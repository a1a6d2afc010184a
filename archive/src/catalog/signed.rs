//! The newest backup that somebody who is trusted vouches for.

use backstay_trust::Signers;

use super::listing::ListedBackup;
use super::lookup::Vouched;
use super::reading::{Progress, Reading};
use crate::store::{Store, StoreError};

/// Backups that are looked at together. The newest of a cluster are signed where any are, unless somebody plants others.
const TOGETHER: usize = 32;

/// The newest of these backups, which come from the newest name on, that one of `signers` signed: of those that stand
/// together the one with the highest number. `None` where there is none, or nobody is trusted.
///
/// # Errors
/// The whole store's.
pub async fn newest_signed(
    store: &dyn Store,
    entries: &[ListedBackup],
    signers: &Signers,
) -> Result<Option<Vouched>, StoreError> {
    if signers.is_empty() {
        return Ok(None);
    }
    let progress = Progress::default();
    // The listing says which have none: a store without signed backups costs nothing.
    let entries: Vec<ListedBackup> = entries.iter().filter(|entry| entry.has_signature).cloned().collect();
    for entries in entries.chunks(TOGETHER) {
        let mut reading = Reading::new(store, &progress).trusting(signers.clone());
        let mut signed: Vec<Vouched> = Vec::new();
        let take = |_, found: Result<Vouched, _>, _: &mut _| signed.extend(found.ok().filter(Vouched::is_signed));
        reading.each_result(entries.to_vec(), take).await?;
        let place = |found: &Vouched| {
            let number = found.manifest.sequence.as_ref().map(|place| place.number);
            (number, found.manifest.snapshot.unix_seconds())
        };
        if let Some(newest) = signed.into_iter().max_by_key(place) {
            return Ok(Some(newest));
        }
    }
    Ok(None)
}
