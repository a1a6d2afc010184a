//! Checks that a snapshot is worth keeping: its pages are consistent, it contains at least the revision that the
//! cluster agreed on, and another member has the same data.
//!
//! - `settings`: the table `[inspection]` of agent.toml;
//! - `ask`: another voting member's HashKV, while the stream runs;
//! - `verdict`: the conclusion from the inspection and that answer.

use std::sync::Arc;

use backstay_archive::manifest::Origin;
use backstay_archive::writer::{Examination, Observer};
use backstay_snapshot::inspect::{InspectError, Inspector, Options};
use tokio::sync::oneshot;

use crate::etcd::Etcd;

pub mod ask;
pub mod settings;
pub mod verdict;

use ask::Question;
use settings::InspectionSettings;
use verdict::{Looked, SnapshotCheck};

/// An inspection of the snapshot of the member in `origin`, unless the settings disable it. `begun` is notified when
/// the stream's first bytes have arrived: before that, the other member could still compact revisions that the snapshot
/// then does not contain either. `voters` are the members that voted before that.
pub fn examination(
    etcd: &Etcd,
    settings: &InspectionSettings,
    origin: &Origin,
    voters: Vec<u64>,
    begun: oneshot::Receiver<()>,
) -> Option<Examination> {
    if !settings.enabled {
        return None;
    }
    let options = Options { memory: settings.memory_limit, hash_at: settings.ask.then_some(origin.revision) };
    let (out, looked) = oneshot::channel();
    let observer = Look { inspector: Some(Inspector::new(options)), failed: None, out };
    let question = settings.ask.then(|| Question::new(Arc::new(etcd.clone()), settings.patience, origin));
    let check = SnapshotCheck { origin: origin.clone(), voters, question };
    Some(Examination { observer: Box::new(observer), verdict: Box::pin(check.verdict(looked, begun)) })
}

/// Inspects, on the verifying thread.
struct Look {
    /// `None` after a failure.
    inspector: Option<Inspector>,
    failed: Option<InspectError>,
    out: oneshot::Sender<Looked>,
}

impl Observer for Look {
    fn update(&mut self, database: &[u8]) {
        if let Some(inspector) = &mut self.inspector
            && let Err(error) = inspector.update(database)
        {
            self.failed = Some(error);
            self.inspector = None;
        }
    }

    fn finish(self: Box<Self>) {
        let looked = match (self.failed, self.inspector) {
            (Some(error), _) => Err(error),
            (None, Some(inspector)) => inspector.finish(),
            // An inspector goes only where a failure takes its place.
            (None, None) => return,
        };
        // Nobody waits for it where the attempt has ended meanwhile.
        let _ = self.out.send(looked);
    }
}
