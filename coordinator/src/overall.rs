//! The overall status in the KV: it has one writer, and its version rises only when something has changed.

use backstay_protocol::Clock;
use backstay_protocol::resource::Resource;
use backstay_protocol::spec::{OVERALL_STATUS_ID, OverallStatusSpec};
use tokio::sync::Mutex;

use crate::kv::{Kv, KvError, Revised};
use crate::record::kept::Kept;

const ENTRY: &str = "overall";

/// The overall status and its entry in the KV.
#[derive(Debug)]
pub struct Overall {
    kv: Kv,
    state: Mutex<Option<Revised<Kept<OverallStatusSpec>>>>,
}

impl Overall {
    /// Reads the status from the KV, and returns whether there was one: a new KV has none.
    ///
    /// # Errors
    /// The KV does not answer, or the entry cannot be parsed.
    pub async fn load(kv: Kv) -> Result<(Self, bool), KvError> {
        let found = kv.get(ENTRY).await?;
        let existed = found.is_some();
        Ok((Self { kv, state: Mutex::new(found) }, existed))
    }

    /// Applies `change` to the status and writes the result to the KV.
    ///
    /// # Errors
    /// The KV does not answer.
    pub async fn update(
        &self,
        clock: &dyn Clock,
        change: impl FnOnce(&OverallStatusSpec) -> OverallStatusSpec,
    ) -> Result<(), KvError> {
        let mut state = self.state.lock().await;
        let now = clock.now();
        let mut next = match &*state {
            Some(found) => found.value.clone(),
            None => Kept::new(OverallStatusSpec::default(), now),
        };
        let spec = change(&next.spec);
        let written = match &*state {
            Some(found) if next.set(spec.clone(), now) => self.kv.update(ENTRY, &next, found.revision).await,
            Some(_) => return Ok(()),
            None => {
                next.spec = spec;
                self.kv.create(ENTRY, &next).await
            }
        };
        match written {
            Ok(revision) => {
                *state = Some(Revised { revision, value: next });
                Ok(())
            }
            Err(error) => {
                // The write may have been taken although its answer was lost: go on from what is there.
                if let Ok(found) = self.kv.get(ENTRY).await {
                    *state = found;
                }
                Err(error)
            }
        }
    }

    pub async fn resource(&self) -> Option<Resource> {
        self.state.lock().await.as_ref().map(|found| found.value.resource(OVERALL_STATUS_ID))
    }
}
