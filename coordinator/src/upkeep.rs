//! What a coordinator maintains while it leads: the overall status, the active store, and a store without leftovers.

use std::sync::Arc;
use std::time::Duration;

use backstay_archive::catalog;
use backstay_daemon::trouble::Trouble;
use backstay_protocol::Timestamp;
use tracing::{debug, info, warn};

use crate::config::Storage;
use crate::kv::KvError;
use crate::record::ClusterRecord;
use crate::status::{self, StorageState};
use crate::storage::{self, ActiveStore, S3_ENTRY, StoredS3};
use crate::term::Term;

/// The pause after the KV did not accept the overall status.
const PAUSE: Duration = Duration::from_secs(1);
/// The pause between two removals of what dead attempts left in the store.
const SWEEP_PAUSE: Duration = Duration::from_secs(3600);
/// The pause between two checks whether the local store is still there.
const LOOK_PAUSE: Duration = Duration::from_secs(10);
/// The pause between two attempts to open a local store that could not be opened.
const MEND_PAUSE: Duration = Duration::from_secs(2);
/// No attempt takes longer, so an upload that is older belongs to a process that died. `backstay-agent once` may take 6
/// hours.
const ATTEMPT_AGE_MAX: Duration = Duration::from_secs(24 * 3600);

/// Updates the overall status from every cluster's latest attempt and the state of the storage.
///
/// # Errors
/// The KV does not answer.
pub async fn refresh_overall(term: &Term) -> Result<(), KvError> {
    let records = term.directory.records();
    let view = term.storage.now();
    let name = term.config.storage.name();
    let folded = term.overall.update(&*term.clock, |spec| {
        let statuses = records.iter().filter_map(|r| r.status.as_ref()).map(|s| &s.spec);
        status::with_clusters(&status::with_storage(spec, name, &view.state), statuses)
    });
    folded.await
}

/// Keeps the overall status up to date; clusters only notify it of a change and do not wait.
pub async fn keep_overall(term: Arc<Term>) {
    let mut trouble = Trouble::default();
    loop {
        term.overall_changed.notified().await;
        while let Err(error) = refresh_overall(&term).await {
            if let Some(told) = trouble.note(&error.to_string()) {
                warn!(%error, lasting = told.lasting, "could not save the overall status; trying again");
            }
            tokio::time::sleep(PAUSE).await;
        }
        trouble.over();
    }
}

/// Opens the local store again if it was not available, as it may be mounted after the coordinator has started, and takes it
/// out of use when it goes away.
pub async fn watch_storage(term: Arc<Term>) {
    let Storage::Local(path) = term.config.storage.clone() else { return };
    let mut trouble = Trouble::default();
    loop {
        let in_use = term.storage.now().active_store.is_some();
        tokio::time::sleep(if in_use { LOOK_PAUSE } else { MEND_PAUSE }).await;
        let looked = match in_use {
            true => term.opener.is_there(&path).await.map(|()| None),
            false => term.opener.local(&path).await.map(Some),
        };
        match looked.map_err(|e| e.to_string()) {
            Ok(None) => continue,
            Ok(Some(active_store)) => {
                term.storage.set(active_store);
                info!(path = %path.display(), lasted = trouble.over(), "the local store is available");
            }
            Err(error) => {
                if let Some(told) = trouble.note(&error) {
                    warn!(error, lasting = told.lasting, "the local store cannot be used; trying again");
                }
                term.storage.clear(StorageState::Broken(error));
            }
        }
        term.overall_changed.notify_one();
    }
}

/// Opens the storage that the settings or the KV name. If the KV is new although this coordinator has a copy of the
/// configuration, the KV was lost and the copy is written back.
///
/// # Errors
/// The KV does not answer. A storage that cannot be opened is not an error: it is shown in the status and tried again.
pub async fn open_storage(term: &Term, kv_existed: bool) -> Result<(), KvError> {
    match &term.config.storage {
        Storage::Local(path) => match term.opener.local(path).await {
            Ok(active_store) => term.storage.set(active_store),
            Err(error) => term.storage.clear(StorageState::Broken(error.to_string())),
        },
        Storage::S3 => {
            let mut stored = term.kv.get::<StoredS3>(S3_ENTRY).await?.map(|found| found.value);
            if stored.is_none() && !kv_existed {
                stored = restore_copy(term).await?;
            }
            if let Some(stored) = stored {
                keep_copy(term, Some(&stored)).await;
                bring_into_force(term, &stored).await;
            }
        }
    }
    Ok(())
}

async fn bring_into_force(term: &Term, stored: &StoredS3) {
    let opened = match stored.open(&term.keys) {
        Ok(spec) => {
            let opened = ActiveStore::s3(spec, &term.config.settings.storage, stored.found).await;
            opened.map_err(|e| e.to_string())
        }
        Err(error) => Err(format!("the stored configuration cannot be decrypted: {error}")),
    };
    match opened {
        Ok(active_store) => term.storage.set(active_store),
        Err(error) => term.storage.clear(StorageState::Broken(error)),
    }
}

/// An error where it could not be kept: whoever leads next would not look for the copy again.
async fn restore_copy(term: &Term) -> Result<Option<StoredS3>, KvError> {
    let Some(stored) = storage::read_copy(&term.config.settings.state_dir).await else { return Ok(None) };
    warn!("the KV is new, so NATS has lost its data. Restoring the storage configuration from this coordinator's copy");
    match term.kv.create(S3_ENTRY, &stored).await {
        // Somebody configured it meanwhile: that counts.
        Err(KvError::Conflict { .. }) => Ok(term.kv.get::<StoredS3>(S3_ENTRY).await?.map(|found| found.value)),
        kept => kept.map(|_| Some(stored)),
    }
}

/// Keeps a copy of the storage configuration, its secrets sealed, for a NATS that loses its disk.
pub async fn keep_copy(term: &Term, stored: Option<&StoredS3>) {
    storage::keep_copy(&term.config.settings.state_dir, stored).await;
}

/// Once in a while, what dead attempts left in the store is removed: also those of `backstay-agent once`,
/// which no slot remembers.
pub async fn sweep_always(term: Arc<Term>) {
    loop {
        if let Some(active_store) = term.storage.now().active_store {
            for record in term.directory.records() {
                sweep(&term, &active_store, &record).await;
            }
        }
        tokio::time::sleep(SWEEP_PAUSE).await;
    }
}

async fn sweep(term: &Term, active_store: &ActiveStore, record: &ClusterRecord) {
    // Older than any attempt can be that still runs.
    let age = term.config.settings.backup.deadline.max(ATTEMPT_AGE_MAX) + SWEEP_PAUSE;
    // The store says when each was begun: a wrong clock here must not make what is under way look old.
    let now = term.clocks.by_store(term.clock.now());
    let older = now.as_millis().saturating_sub(age.as_millis() as i64);
    match catalog::sweep(&*active_store.store, record.uuid, Timestamp::from_millis(older)).await {
        Ok(swept) => debug!(cluster = %record.name, ?swept, "swept"),
        Err(error) => warn!(cluster = %record.name, %error, "could not remove leftovers of dead attempts"),
    }
}
