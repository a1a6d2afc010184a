//! Reads the elements of one page in order, and checks that each is exactly where bbolt puts it.
//!
//! bbolt writes keys and values without gaps, starting behind the elements. So every position is known beforehand.
//! The space behind the last value is unused and is not read.

use super::fault::PageFault;
use crate::bolt::{
    BranchElement, ELEMENT_BYTES, KEY_BYTES_MAX, LeafElement, PAGE_HEADER_BYTES, VALUE_BYTES_MAX, array_at,
};

/// A fault and its offset within the page, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    pub at: u32,
    pub fault: PageFault,
}

/// An entry of a leaf.
pub struct Item<'a> {
    /// Offset of the element within the page, in bytes.
    pub at: u32,
    pub flags: u32,
    pub key: &'a [u8],
    pub value: &'a [u8],
    /// Key and value together, as they are in the page.
    pub both: &'a [u8],
}

/// An entry of a branch.
pub struct Child<'a> {
    pub at: u32,
    pub key: &'a [u8],
    pub page: u64,
}

/// Iterates over the elements of `page`, which starts with its header.
struct Elements<'a> {
    page: &'a [u8],
    count: usize,
    next: usize,
    /// Where the next key must be.
    content: usize,
}

impl<'a> Elements<'a> {
    fn new(page: &'a [u8], count: u16) -> Self {
        let count = usize::from(count);
        Self { page, count, next: 0, content: PAGE_HEADER_BYTES + count * ELEMENT_BYTES }
    }

    /// The next element and its offset.
    fn element(&mut self) -> Option<Result<(usize, &'a [u8; ELEMENT_BYTES]), Found>> {
        if self.next == self.count {
            return None;
        }
        let at = PAGE_HEADER_BYTES + self.next * ELEMENT_BYTES;
        self.next += 1;
        Some(array_at(self.page, at).map(|element| (at, element)).ok_or_else(|| found(at, PageFault::Elements)))
    }

    /// The content of the element at offset `at`, of `bytes` bytes. Fails if `position` is not where it must be.
    fn content(&mut self, at: usize, position: u32, bytes: usize) -> Result<&'a [u8], Found> {
        if at + position as usize != self.content {
            return Err(found(at, PageFault::Position));
        }
        let end = self.content + bytes;
        let content = self.page.get(self.content..end).ok_or_else(|| found(at, PageFault::Content))?;
        self.content = end;
        Ok(content)
    }
}

/// Offsets fit into 32 bits, because the pages that are read whole are far smaller.
pub fn found(at: usize, fault: PageFault) -> Found {
    Found { at: u32::try_from(at).unwrap_or(u32::MAX), fault }
}

/// The entries of a leaf page.
pub struct Items<'a>(Elements<'a>);

impl<'a> Items<'a> {
    pub fn new(page: &'a [u8], count: u16) -> Self {
        Self(Elements::new(page, count))
    }

    /// Where the content ends; final once all items were read.
    pub fn end(&self) -> usize {
        self.0.content
    }

    fn read(&mut self, at: usize, element: LeafElement) -> Result<Item<'a>, Found> {
        let LeafElement { flags, position, key_bytes, value_bytes } = element;
        if key_bytes == 0 || key_bytes > KEY_BYTES_MAX {
            return Err(found(at, PageFault::KeySize));
        }
        if value_bytes > VALUE_BYTES_MAX {
            return Err(found(at, PageFault::Content));
        }
        let both = self.0.content(at, position, key_bytes as usize + value_bytes as usize)?;
        let (key, value) = both.split_at(key_bytes as usize);
        Ok(Item { at: at as u32, flags, key, value, both })
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Result<Item<'a>, Found>;

    fn next(&mut self) -> Option<Self::Item> {
        let element = self.0.element()?;
        Some(element.and_then(|(at, element)| self.read(at, LeafElement::parse(element))))
    }
}

/// The entries of a branch page.
pub struct Children<'a>(Elements<'a>);

impl<'a> Children<'a> {
    pub fn new(page: &'a [u8], count: u16) -> Self {
        Self(Elements::new(page, count))
    }

    pub fn end(&self) -> usize {
        self.0.content
    }

    fn read(&mut self, at: usize, element: BranchElement) -> Result<Child<'a>, Found> {
        let BranchElement { position, key_bytes, child } = element;
        if key_bytes == 0 || key_bytes > KEY_BYTES_MAX {
            return Err(found(at, PageFault::KeySize));
        }
        let key = self.0.content(at, position, key_bytes as usize)?;
        Ok(Child { at: at as u32, key, page: child })
    }
}

impl<'a> Iterator for Children<'a> {
    type Item = Result<Child<'a>, Found>;

    fn next(&mut self) -> Option<Self::Item> {
        let element = self.0.element()?;
        Some(element.and_then(|(at, element)| self.read(at, BranchElement::parse(element))))
    }
}

/// Whether content that ends at `end` takes exactly `pages` pages of `page_bytes`. Older bbolt uses one page more if
/// the content fills its last page completely.
pub fn fits(end: usize, page_bytes: usize, pages: usize) -> bool {
    pages == end.div_ceil(page_bytes) || pages == end / page_bytes + 1
}
