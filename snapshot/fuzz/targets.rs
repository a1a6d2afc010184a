//! What is fuzzed: functions that accept any bytes and must return. The fuzzer's targets call them, and so do the
//! tests that run on every change.

use backstay_snapshot::Frames;
use backstay_snapshot::bolt::{META_BYTES, Meta, NO_FREELIST, PAGE_HEADER_BYTES, PageHeader, page};
use backstay_snapshot::inspect::{Inspector, KeyValue, Options, Revision};

/// All of them.
pub const ALL: [fn(&[u8]); 4] = [database, pages, values, frames];

/// Any bytes as a database.
pub fn database(bytes: &[u8]) {
    look(bytes);
}

/// Any pages behind valid meta pages, with the smallest page size, so that the interesting parts are reached soon.
/// The first byte selects the root page.
pub fn pages(bytes: &[u8]) {
    const SIZE: usize = 512;
    let Some((root, bytes)) = bytes.split_first() else { return };
    let mut database = vec![0; 2 * SIZE];
    for (number, txid) in [(0_usize, 2_u64), (1, 1)] {
        let header = PageHeader { id: number as u64, flags: page::META, count: 0, overflow: 0 };
        let end = 2 + bytes.len().div_ceil(SIZE).max(1) as u64;
        let root = backstay_snapshot::bolt::BucketHeader { root: 2 + u64::from(*root) % (end - 2), sequence: 0 };
        let meta = Meta { page_bytes: SIZE as u32, flags: 0, root, freelist: NO_FREELIST, end, txid };
        let at = number * SIZE;
        database[at..at + PAGE_HEADER_BYTES].copy_from_slice(&header.to_bytes());
        database[at + PAGE_HEADER_BYTES..][..META_BYTES].copy_from_slice(&meta.to_bytes());
    }
    database.extend_from_slice(bytes);
    database.resize(database.len().next_multiple_of(SIZE).max(3 * SIZE), 0);
    look(&database);
}

/// Keys and values of the bucket `key`.
pub fn values(bytes: &[u8]) {
    let _ = KeyValue::parse(bytes);
    let Some((key, value)) = bytes.split_at_checked(Revision::BYTES) else { return };
    if let Some(revision) = Revision::parse(key) {
        let _ = KeyValue::of(revision, value);
    }
}

/// Frames: a length, the number of remaining bytes, the blob.
pub fn frames(mut bytes: &[u8]) {
    let mut frames = Frames::default();
    while let Some(([length, remaining], rest)) = bytes.split_first_chunk() {
        let (blob, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        if frames.feed(blob, u64::from(*remaining) * 64).is_err() {
            return;
        }
        bytes = rest;
    }
    let _ = frames.finish();
}

fn look(database: &[u8]) {
    let mut inspector = Inspector::new(Options { hash_at: Some(5), memory: 1 << 20 });
    if inspector.update(database).is_ok()
        && let Ok(inspection) = inspector.finish()
    {
        let _ = inspection.hash_kv(-1);
    }
}
