//! Values of many megabytes, in a database that is built here: inspected completely, as far as the memory allows.

use backstay_snapshot::bolt::{
    BucketHeader, ELEMENT_BYTES, LEAF_IS_BUCKET, LeafElement, Meta, NO_FREELIST, PAGE_HEADER_BYTES, PageHeader, page,
};
use backstay_snapshot::inspect::{Inspection, Inspector, Options, Revision, Unknown};

const PAGE: usize = 4096;
const MIB: usize = 1024 * 1024;

/// The entries of a leaf, elements first.
fn leaf(entries: &[(u32, Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let (mut elements, mut data) = (Vec::new(), Vec::new());
    for (place, (flags, key, value)) in entries.iter().enumerate() {
        let position = ((entries.len() - place) * ELEMENT_BYTES + data.len()) as u32;
        let (key_bytes, value_bytes) = (key.len() as u32, value.len() as u32);
        elements.extend(LeafElement { flags: *flags, position, key_bytes, value_bytes }.to_bytes());
        data.extend_from_slice(key);
        data.extend_from_slice(value);
    }
    elements.extend(data);
    elements
}

fn with_header(id: u64, count: usize, content: Vec<u8>) -> Vec<u8> {
    let overflow = ((PAGE_HEADER_BYTES + content.len()).div_ceil(PAGE) - 1) as u32;
    let header = PageHeader { id, flags: page::LEAF, count: count as u16, overflow };
    let mut bytes = [header.to_bytes().to_vec(), content].concat();
    bytes.resize(bytes.len().next_multiple_of(PAGE), 0);
    bytes
}

fn bucket(root: u64, inline: &[u8]) -> Vec<u8> {
    [BucketHeader { root, sequence: 0 }.to_bytes().as_slice(), inline].concat()
}

fn varint(mut n: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while n > 0x7F {
        bytes.push(n as u8 | 0x80);
        n >>= 7;
    }
    bytes.push(n as u8);
    bytes
}

/// A put of a key `k` at `revision`, as etcd stores it.
fn put(revision: u8, value: &[u8]) -> Vec<u8> {
    let head = [0x0a, 1, b'k', 0x10, revision, 0x18, revision, 0x20, 1, 0x2a];
    [head.as_slice(), &varint(value.len()), value].concat()
}

/// A database with values of these sizes in one leaf.
fn database(sizes: &[usize]) -> Vec<u8> {
    let rows = sizes.iter().enumerate().map(|(place, size)| {
        let (key, length) = Revision { main: place as u64 + 2, sub: 0, tombstone: false }.to_bytes();
        let value: Vec<u8> = (0..*size).map(|n| (n / 7) as u8).collect();
        (0, key[..length].to_vec(), put(place as u8 + 2, &value))
    });
    let rows: Vec<_> = rows.collect();
    let key = with_header(3, rows.len(), leaf(&rows));
    let end = 3 + (key.len() / PAGE) as u64;
    let inline = PageHeader { id: 0, flags: page::LEAF, count: 0, overflow: 0 }.to_bytes();
    let buckets =
        [(LEAF_IS_BUCKET, b"key".to_vec(), bucket(3, &[])), (LEAF_IS_BUCKET, b"meta".to_vec(), bucket(0, &inline))];
    let metas = [0, 1_u64].map(|id| {
        let header = PageHeader { id, flags: page::META, count: 0, overflow: 0 };
        let root = BucketHeader { root: 2, sequence: 0 };
        let meta = Meta { page_bytes: PAGE as u32, flags: 0, root, freelist: NO_FREELIST, end, txid: 7 + id };
        let mut bytes = [header.to_bytes().as_slice(), &meta.to_bytes()].concat();
        bytes.resize(PAGE, 0);
        bytes
    });
    [metas.concat(), with_header(2, 2, leaf(&buckets)), key].concat()
}

fn look(database: &[u8], memory: u64) -> Inspection {
    let options = Options { hash_at: Some(3), memory };
    let mut inspector = Inspector::new(options);
    database.chunks(256 * 1024).for_each(|piece| inspector.update(piece).expect("no fault"));
    inspector.finish().expect("no fault")
}

#[test]
fn large_values_are_inspected_wholly() {
    let memory = Options::default().memory;
    for sizes in [&[10, 16 * MIB], &[9 * MIB, 9 * MIB], &[20 * MIB, 10], &[30 * MIB, 30 * MIB]] {
        let database = database(sizes);
        let inspection = look(&database, memory);
        let contents = inspection.contents.as_ref().expect("known");
        assert_eq!((contents.entries, contents.live_keys, contents.last_revision), (2, Some(1), 3), "{sizes:?}");
        assert!(inspection.hash_kv(-1).is_ok(), "{sizes:?}");
        assert!(inspection.memory <= memory, "{sizes:?}: {}", inspection.memory);
        // `snapshot status` sums the buckets' names, then keys and values in order, down to the very last byte.
        let mut other = database.clone();
        let last = other.iter().rposition(|byte| *byte != 0).expect("not empty");
        other[last] ^= 1;
        let seen = look(&other, memory).contents.expect("known").status_hash;
        assert_ne!(seen, contents.status_hash, "{sizes:?}");
    }
}

#[test]
fn what_is_too_large_for_the_memory_is_named() {
    let inspection = look(&database(&[MIB, 2 * MIB]), 4 * MIB as u64);
    let why = inspection.contents.expect_err("too large");
    assert!(matches!(&why, Unknown::Unread(text) if text.starts_with("page 3 is too large to be inspected")), "{why}");
}
