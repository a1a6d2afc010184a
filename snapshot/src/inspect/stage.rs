//! The state of an inspection between two pieces of the stream: first the meta pages, then page by page, within the
//! memory limit; at the end the result.

use super::cut::Take;
use super::entries::{Entries, HashTable};
use super::fault::{Fault, InspectError};
use super::inspection::{Contents, Inspection, Options, Unknown};
use super::pages::Pages;
use super::walk::{self, FreeList, Halt, Walked};
use crate::bolt::{
    META_BYTES, Meta, NO_FREELIST, PAGE_BYTES_MAX, PAGE_BYTES_MIN, PAGE_HEADER_BYTES, PageHeader, array_at, page,
};
use crate::crc::Combiner;

/// The share of the memory that one page and its overflow may take, as a divisor: they are read in one piece. bbolt
/// puts at least two entries into a page, so a value may have a quarter of the memory if all values are that large.
const RUN_SHARE: u64 = 2;

/// Records store lengths in 32 bits.
const RUN_MAX: u64 = u32::MAX as u64;

/// How many bytes may be read more than once, in addition to as many as have arrived. Pages that lie in the overflow
/// of others are stale or forged, and reading them costs time.
const AGAIN_BYTES: u64 = 64 * 1024 * 1024;

/// The revision of an etcd to which nothing was written.
const FIRST_REVISION: i64 = 1;

/// Size of a meta page's header and metadata, in bytes.
const META_SPAN: usize = PAGE_HEADER_BYTES + META_BYTES;

/// The state.
pub struct Stage {
    options: Options,
    combiner: Combiner,
    meta: Option<Meta>,
    /// The first fault in the meta pages.
    fault: Option<InspectError>,
    /// `None` once they took too much memory.
    pages: Option<Pages>,
    free: Option<FreeList>,
    /// Number of the next page.
    next: u64,
    /// Number of the first page behind everything that was read, and the bytes before it that were read again.
    behind: u64,
    again: u64,
    /// The most memory used so far, in bytes.
    peak: u64,
}

impl Take for Stage {
    fn need(&self, bytes: &[u8]) -> usize {
        let Some(meta) = &self.meta else { return self.need_of_metas(bytes) };
        let page_bytes = meta.page_bytes as usize;
        match self.header(bytes) {
            Some(header) if self.is_looked_at(meta, header) => page_bytes * (header.overflow as usize + 1),
            _ => page_bytes.min(if self.next < meta.end { page_bytes } else { bytes.len().max(1) }),
        }
    }

    fn take(&mut self, bytes: &[u8]) -> usize {
        let Some(meta) = self.meta else { return self.take_metas(bytes) };
        if self.next < meta.end
            && let Some(header) = self.header(bytes)
        {
            self.page(&meta, header, bytes);
        }
        self.next += 1;
        (meta.page_bytes as usize).min(bytes.len())
    }
}

impl Stage {
    pub fn new(options: Options) -> Self {
        Self {
            options,
            combiner: Combiner::default(),
            meta: None,
            fault: None,
            pages: Some(Pages::new()),
            free: None,
            next: 0,
            behind: 0,
            again: 0,
            peak: 0,
        }
    }

    /// # Errors
    /// The meta pages are not valid.
    pub fn check(&self) -> Result<(), InspectError> {
        self.fault.clone().map_or(Ok(()), Err)
    }

    fn need_of_metas(&self, bytes: &[u8]) -> usize {
        if self.fault.is_some() {
            return bytes.len().max(1);
        }
        if bytes.len() < META_SPAN {
            return META_SPAN;
        }
        match read_meta(bytes, 0, 0) {
            Ok(meta) => 2 * meta.page_bytes as usize,
            Err(_) => META_SPAN,
        }
    }

    fn take_metas(&mut self, bytes: &[u8]) -> usize {
        if self.fault.is_none() {
            match read_metas(bytes) {
                Ok(meta) => {
                    self.meta = Some(meta);
                    (self.next, self.behind) = (2, 2);
                }
                Err(error) => self.fault = Some(error),
            }
        }
        bytes.len()
    }

    /// The header of the next page, if its number is the expected one.
    fn header(&self, bytes: &[u8]) -> Option<PageHeader> {
        let header = PageHeader::parse(array_at(bytes, 0)?);
        (header.id == self.next).then_some(header)
    }

    /// Whether the page and its overflow are read in one piece.
    fn is_looked_at(&self, meta: &Meta, header: PageHeader) -> bool {
        let pages = u64::from(header.overflow) + 1;
        let bytes = pages * u64::from(meta.page_bytes);
        let kind = matches!(header.flags, page::BRANCH | page::LEAF)
            || (header.flags == page::FREELIST && header.id == meta.freelist);
        let again = if header.id < self.behind { self.again + bytes } else { 0 };
        // What is already held is kept: a page that may only be stale is not worth dropping it.
        let held = self.pages.as_ref().map(|pages| pages.held_without_entries());
        held.is_some_and(|held| held + bytes <= self.options.memory)
            && kind
            && header.id + pages <= meta.end
            && bytes <= (self.options.memory / RUN_SHARE).min(RUN_MAX)
            && again <= AGAIN_BYTES + self.next * u64::from(meta.page_bytes)
    }

    fn page(&mut self, meta: &Meta, header: PageHeader, bytes: &[u8]) {
        let looked_at = self.is_looked_at(meta, header);
        let Some(pages) = &mut self.pages else { return };
        match header.flags {
            page::FREELIST if looked_at => {
                self.free = read_free_list(bytes, header);
                return;
            }
            // Without the free list, nothing can be said about the whole.
            page::FREELIST if header.id == meta.freelist => {
                self.pages = None;
                return;
            }
            page::BRANCH | page::LEAF if looked_at => {
                pages.look(bytes, header, meta.page_bytes as usize, meta.root.root, &self.combiner);
            }
            page::BRANCH | page::LEAF if header.id + u64::from(header.overflow) >= meta.end => pages.past_end(header),
            page::BRANCH | page::LEAF => {
                pages.unread(header);
                return self.bound(0);
            }
            _ => return,
        }
        if header.id < self.behind {
            self.again += bytes.len() as u64;
        }
        self.behind = self.behind.max(header.id + u64::from(header.overflow) + 1);
        self.bound(bytes.len() as u64);
    }

    /// Frees memory above the limit: first the table of entries, then the records.
    fn bound(&mut self, run: u64) {
        let Some(pages) = &mut self.pages else { return };
        // A run that comes in two pieces is held once more, and a table of entries is judged with the help of another.
        let judging = pages.entries.as_ref().map_or(0, |entries| Entries::judging(u64::from(entries.len())));
        if pages.held() + run + judging > self.options.memory {
            pages.entries = None;
        }
        if pages.held() + run > self.options.memory {
            self.pages = None;
        }
        self.peak = self.peak.max(self.pages.as_ref().map_or(0, Pages::held) + run);
    }

    /// Checks the database, of which `bytes` bytes arrived.
    pub fn finish(mut self, bytes: u64) -> Result<Inspection, InspectError> {
        self.check()?;
        let at_end = |page, fault| InspectError { page, offset: bytes, fault };
        let Some(meta) = self.meta else {
            return Err(at_end(0, Fault::Truncated { got: bytes, want: META_SPAN as u64 }));
        };
        let page_bytes = u64::from(meta.page_bytes);
        let want = meta.end.saturating_mul(page_bytes);
        if bytes < want {
            return Err(at_end(bytes / page_bytes, Fault::Truncated { got: bytes, want }));
        }
        if meta.freelist != NO_FREELIST && self.free.is_none() && self.pages.is_some() {
            let offset = meta.freelist.saturating_mul(page_bytes);
            return Err(InspectError { page: meta.freelist, offset, fault: Fault::FreeList });
        }
        let memory = Unknown::Memory(self.options.memory);
        let walked = match self.pages.take() {
            None => Err(memory.clone()),
            Some(mut pages) => {
                self.peak = self.peak.max(pages.held() + walk::needs(&meta, pages.len()));
                match walk::walk(&meta, &mut pages, self.free.as_ref(), &self.combiner) {
                    Ok(walked) => Ok((walked, pages.entries.take())),
                    Err(Halt::Error(error)) => return Err(error),
                    Err(Halt::Unknown(why)) => Err(Unknown::Unread(why)),
                }
            }
        };
        Ok(self.describe(&meta, want, walked, memory))
    }

    fn describe(
        self,
        meta: &Meta,
        bytes: u64,
        walked: Result<(Walked, Option<Entries>), Unknown>,
        memory: Unknown,
    ) -> Inspection {
        let (contents, table, judging) = match walked {
            Err(why) => (Err(why.clone()), Err(why), 0),
            Ok((mut walked, entries)) => {
                let leaves = std::mem::take(&mut walked.leaves);
                let held = entries.as_ref().map_or(0, |e| e.held() + Entries::judging(u64::from(e.len())));
                let table = entries.map(|entries| entries.judge(leaves, self.options.hash_at)).ok_or(memory);
                let live_keys = table.as_ref().ok().map(|table: &HashTable| table.live_keys);
                let seen_keys = table.as_ref().ok().map(|table: &HashTable| table.seen_keys);
                (Ok(Contents { seen_keys, ..contents(walked, u64::from(meta.page_bytes), live_keys) }), table, held)
            }
        };
        Inspection {
            page_bytes: meta.page_bytes,
            bytes,
            contents,
            memory: self.peak.max(judging),
            hash_at: self.options.hash_at,
            table,
            combiner: self.combiner,
        }
    }
}

fn contents(walked: Walked, page_bytes: u64, live_keys: Option<u64>) -> Contents {
    let last_revision = walked.last.map_or(0, |last| i64::try_from(last.main).unwrap_or(i64::MAX));
    Contents {
        bytes_in_use: walked.pages * page_bytes,
        entries: walked.sum.entries,
        status_hash: walked.sum.crc,
        last_revision,
        revision: last_revision.max(walked.about.compacted().unwrap_or(0)).max(FIRST_REVISION),
        about: walked.about,
        live_keys,
        seen_keys: None,
    }
}

/// Reads both meta pages and returns the newer one.
fn read_metas(bytes: &[u8]) -> Result<Meta, InspectError> {
    let first = read_meta(bytes, 0, 0)?;
    let page_bytes = first.page_bytes as usize;
    let second = read_meta(bytes, 1, page_bytes)?;
    let contradiction = |what| Err(InspectError { page: 1, offset: page_bytes as u64, fault: Fault::Metas(what) });
    if first.page_bytes != second.page_bytes {
        return contradiction("different page sizes");
    }
    if first.txid == second.txid {
        return contradiction("the same transaction");
    }
    let meta = if second.txid > first.txid { second } else { first };
    // Two meta pages and at least one root page.
    if meta.end < 3 || meta.end >= u64::from(u32::MAX) {
        return contradiction("an impossible number of pages");
    }
    if meta.root.root < 2 || meta.root.root >= meta.end {
        return contradiction("a root outside the pages in use");
    }
    Ok(meta)
}

fn read_meta(bytes: &[u8], page: u64, at: usize) -> Result<Meta, InspectError> {
    let error = |fault| InspectError { page, offset: at as u64, fault };
    let short = || error(Fault::Truncated { got: bytes.len() as u64, want: (at + META_SPAN) as u64 });
    let header = PageHeader::parse(array_at(bytes, at).ok_or_else(short)?);
    let meta = array_at::<META_BYTES>(bytes, at + PAGE_HEADER_BYTES).ok_or_else(short)?;
    let meta = Meta::parse(meta).map_err(|fault| error(fault.into()))?;
    if header != (PageHeader { id: page, flags: page::META, count: 0, overflow: 0 }) {
        let PageHeader { id, flags, count, overflow } = header;
        return Err(error(Fault::MetaHeader { id, flags, count, overflow }));
    }
    let size = meta.page_bytes;
    if !size.is_power_of_two() || !(PAGE_BYTES_MIN..=PAGE_BYTES_MAX).contains(&size) {
        return Err(error(Fault::PageSize(size)));
    }
    Ok(meta)
}

/// Reads a free list, which is a list of page numbers. If their count does not fit into the header, it is the first
/// of them.
fn read_free_list(run: &[u8], header: PageHeader) -> Option<FreeList> {
    let mut numbers = run.get(PAGE_HEADER_BYTES..)?.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes));
    let count = match header.count {
        u16::MAX => usize::try_from(numbers.next()?).ok()?,
        count => usize::from(count),
    };
    let pages: Vec<u64> = numbers.take(count).collect();
    (pages.len() == count).then_some(FreeList { overflow: header.overflow, pages })
}
