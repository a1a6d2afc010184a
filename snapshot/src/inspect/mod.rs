//! Checks a database while it streams by: whether its pages form an intact tree, what it contains, and which HashKV a
//! member with the same data must report. Nothing is written to disk, and no input makes it panic.
//!
//! - `cut`: joins the pieces of the stream into whole pages;
//! - `items`, `leaf`, `value`: read one page, and the values of the bucket `key`;
//! - `pages`: keeps a small record of each page that may belong to the tree;
//! - `walk`: follows the records from the root, at the end;
//! - `entries`: the table for HashKV; `about`: what etcd stores about itself;
//! - `inspection`: options and results.
//!
//! It needs about 60 bytes of memory per page of the tree and 24 per entry of the bucket `key`, up to a limit
//! ([`Options::memory`]). Above the limit nothing fails: what could not be kept is reported as [`Unknown`].
//!
//! ```
//! use backstay_snapshot::inspect::{Inspector, Options};
//!
//! // The database of an etcd 3.4.23, at revision 8.
//! # let database = include_bytes!("../../tests/golden/restore/3.4.23.db");
//! let mut inspector = Inspector::new(Options { hash_at: Some(8), ..Options::default() });
//! for piece in database.chunks(64 * 1024) {
//!     inspector.update(piece)?;
//! }
//! let inspection = inspector.finish()?;
//!
//! let contents = inspection.contents.clone()?;
//! assert_eq!((contents.revision, contents.about.members.len()), (8, 1));
//!
//! // The HashKV that a member reports at revision 8 if it was never compacted (-1).
//! let hash = inspection.hash_kv(-1)?;
//! # let from_member = hash.hash;
//! assert!(hash.is(from_member));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fmt;

mod about;
mod cut;
mod entries;
mod fault;
mod inspection;
mod items;
mod leaf;
mod pages;
mod stage;
mod value;
mod walk;

pub use about::{About, Member};
pub use entries::HashKv;
pub use fault::{BucketFault, Fault, InspectError, PageFault, ValueFault};
pub use inspection::{Contents, Inspection, MEMORY_DEFAULT, Options, Unknown};
pub use value::{KeyValue, Revision};

use cut::Cutter;
use stage::Stage;

/// An inspection in progress. Pass the database to [`update`](Self::update) in order, then call
/// [`finish`](Self::finish).
pub struct Inspector {
    cutter: Cutter,
    stage: Stage,
    bytes: u64,
}

impl fmt::Debug for Inspector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inspector").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Inspector {
    /// Starts an inspection. Allocates little; memory grows with the database, up to [`Options::memory`].
    pub fn new(options: Options) -> Self {
        Self { cutter: Cutter::default(), stage: Stage::new(options), bytes: 0 }
    }

    /// Takes the next bytes of the database, cut anywhere; the trailer is not part of it. Pieces that are multiples
    /// of the page size cost the least.
    ///
    /// # Errors
    /// [`InspectError`] if the meta pages are not valid. Faults in other pages are reported by
    /// [`finish`](Self::finish).
    pub fn update(&mut self, piece: &[u8]) -> Result<(), InspectError> {
        self.bytes += piece.len() as u64;
        self.cutter.feed(piece, &mut self.stage);
        self.stage.check()
    }

    /// Checks the database as a whole.
    ///
    /// # Errors
    /// [`InspectError`] with the first fault on the way from the root, if this is not a complete and intact database
    /// of etcd.
    pub fn finish(self) -> Result<Inspection, InspectError> {
        drop(self.cutter);
        self.stage.finish(self.bytes)
    }
}
