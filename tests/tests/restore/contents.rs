//! Everything that a database holds, read by the layouts of its pages and nothing else.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use backstay_snapshot::bolt::{
    BUCKET_HEADER_BYTES, BranchElement, BucketHeader, ELEMENT_BYTES, LeafElement, META_BYTES, Meta, PAGE_HEADER_BYTES,
    PageHeader, array_at, page,
};

/// Bucket, key, value.
pub type Contents = BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>>;

/// All buckets of a database of whole pages.
pub fn contents(database: &[u8]) -> Result<Contents> {
    let mut buckets = Vec::new();
    tree(database, meta(database)?.root.root, meta(database)?.page_bytes as usize, &mut buckets)?;
    let mut all = Contents::new();
    for (name, value) in buckets {
        let header = BucketHeader::parse(array_at(&value, 0).context("a bucket has a header")?);
        let mut entries = Vec::new();
        match header.root {
            0 => leaf(&value[BUCKET_HEADER_BYTES..], &mut entries)?,
            root => tree(database, root, meta(database)?.page_bytes as usize, &mut entries)?,
        }
        ensure!(entries.is_sorted_by(|a, b| a.0 < b.0), "the keys are in order");
        all.insert(String::from_utf8(name)?, entries.into_iter().collect());
    }
    Ok(all)
}

fn meta(database: &[u8]) -> Result<Meta> {
    let at = |offset: usize| -> Result<Meta> {
        let bytes: &[u8; META_BYTES] = array_at(database, offset + PAGE_HEADER_BYTES).context("a meta page")?;
        Ok(Meta::parse(bytes)?)
    };
    let first = at(0)?;
    let second = at(first.page_bytes as usize)?;
    Ok(if second.txid > first.txid { second } else { first })
}

type Entries = Vec<(Vec<u8>, Vec<u8>)>;

fn tree(database: &[u8], root: u64, page_bytes: usize, into: &mut Entries) -> Result<()> {
    let bytes = database.get(root as usize * page_bytes..).context("a page within the file")?;
    let header = PageHeader::parse(array_at(bytes, 0).context("a header")?);
    ensure!(header.id == root, "page {root} says {}", header.id);
    if header.flags == page::LEAF {
        return leaf(bytes, into);
    }
    ensure!(header.flags == page::BRANCH, "page {root} is neither leaf nor branch");
    for index in 0..usize::from(header.count) {
        let element = array_at(bytes, PAGE_HEADER_BYTES + index * ELEMENT_BYTES).context("an element")?;
        tree(database, BranchElement::parse(element).child, page_bytes, into)?;
    }
    Ok(())
}

fn leaf(bytes: &[u8], into: &mut Entries) -> Result<()> {
    let header = PageHeader::parse(array_at(bytes, 0).context("a header")?);
    for index in 0..usize::from(header.count) {
        let at = PAGE_HEADER_BYTES + index * ELEMENT_BYTES;
        let element = LeafElement::parse(array_at(bytes, at).context("an element")?);
        let key = at + element.position as usize;
        let value = key + element.key_bytes as usize;
        let end = value + element.value_bytes as usize;
        ensure!(end <= bytes.len(), "an element points outside the file");
        into.push((bytes[key..value].to_vec(), bytes[value..end].to_vec()));
    }
    Ok(())
}
