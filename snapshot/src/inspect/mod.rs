//! One look at a database as it streams by: whether its pages hang together, what it holds, and which HashKV a
//! member with the same data must say. Nothing is staged; no IO; any bytes are an answer, never a panic.
//!
//! - `cut`: pieces of the stream become runs of pages;
//! - `items`, `leaf`, `value`: one page by itself, and the values of the bucket `key`;
//! - `pages`: a small record of each page that could be one of the tree;
//! - `walk`: at the end, from the root along the records;
//! - `entries`: the table for HashKV; `about`: what etcd keeps about itself;
//! - `inspection`: how to look, and what is known at the end.
//!
//! Memory: about 60 bytes per page of the tree and 24 per entry of the bucket `key`, under a cap. Past it nothing fails: what
//! could not be kept is not known, and the inspection says so.

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

/// A look at a database in progress. [`update`](Self::update) with its bytes in order, then [`finish`](Self::finish).
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
    pub fn new(options: Options) -> Self {
        Self { cutter: Cutter::default(), stage: Stage::new(options), bytes: 0 }
    }

    /// Takes the next bytes of the database, cut anywhere (multiples of the page size cost the least). Not the trailer.
    ///
    /// # Errors
    /// The meta pages are none. What is wrong with the others shows at the end.
    pub fn update(&mut self, piece: &[u8]) -> Result<(), InspectError> {
        self.bytes += piece.len() as u64;
        self.cutter.feed(piece, &mut self.stage);
        self.stage.check()
    }

    /// Judges the whole.
    ///
    /// # Errors
    /// It is no whole database of etcd's: the first fault on the way from the root.
    pub fn finish(self) -> Result<Inspection, InspectError> {
        drop(self.cutter);
        self.stage.finish(self.bytes)
    }
}
