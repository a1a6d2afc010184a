//! The layout of a bbolt file: what each page contains, for reading and for writing.
//!
//! A file consists of pages of one size. Pages 0 and 1 are meta pages; the one with the higher transaction ID and a
//! valid checksum is the current one and names the root. Every other page is a [`PageHeader`], then `count` elements
//! of 16 bytes, then the keys and values that the elements point at. Content that is larger than a page continues in
//! the next `overflow` pages, which have no header of their own. All numbers are little endian, because bbolt writes
//! the byte order of the machine and etcd supports only little-endian ones.
//!
//! The source is bbolt's `internal/common` (`page.go`, `meta.go`, `bucket.go`, `types.go`) and, for the limits on
//! keys and values, its `bucket.go`. This module knows single structures only; whether a file as a whole is
//! consistent is checked by [`inspect`](crate::inspect).

/// Size of a page's header, in bytes.
pub const PAGE_HEADER_BYTES: usize = 16;
/// Size of an element of a leaf or branch page, in bytes.
pub const ELEMENT_BYTES: usize = 16;
/// Size of a bucket's header, in bytes. The header is the value of the bucket's element, or the beginning of that
/// value.
pub const BUCKET_HEADER_BYTES: usize = 16;
/// Size of the metadata that follows the header of a meta page, in bytes.
pub const META_BYTES: usize = 64;

/// The first field of the metadata.
pub const MAGIC: u32 = 0xED0C_DAED;
/// The only version of the file format.
pub const VERSION: u32 = 2;
/// The value of [`Meta::freelist`] if the free pages are not written to the file. etcd on Linux never writes them.
pub const NO_FREELIST: u64 = u64::MAX;

/// The smallest page size that is accepted, in bytes. bbolt uses the operating system's page size, which is a power
/// of two.
pub const PAGE_BYTES_MIN: u32 = 512;
/// The largest page size that is accepted, in bytes.
pub const PAGE_BYTES_MAX: u32 = 1 << 20;

/// Size of the longest key that bbolt accepts, in bytes (`MaxKeySize`).
pub const KEY_BYTES_MAX: u32 = 32768;
/// Size of the longest value that bbolt accepts, in bytes (`MaxValueSize`).
pub const VALUE_BYTES_MAX: u32 = (1 << 31) - 2;

/// The flags in a page's header, which say what kind of page it is. A page has exactly one of them.
pub mod page {
    /// The page lists child pages and the first key of each.
    pub const BRANCH: u16 = 0x01;
    /// The page contains keys and values.
    pub const LEAF: u16 = 0x02;
    /// The page is one of the two meta pages.
    pub const META: u16 = 0x04;
    /// The page lists the numbers of free pages.
    pub const FREELIST: u16 = 0x10;
}

/// The only flag of a leaf element: its value is a bucket, not user data.
pub const LEAF_IS_BUCKET: u32 = 0x01;

/// Offset of the checksum in the metadata, in bytes. The checksum covers everything before it.
const CHECKSUM_AT: usize = 56;

/// The header at the beginning of every page (bbolt's `Page`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PageHeader {
    /// The page's own number, which is its offset in the file divided by the page size. 0 in the page of an inline
    /// bucket.
    pub id: u64,
    /// One of the constants in [`page`].
    pub flags: u16,
    /// Number of elements. In a free list, number of pages, or 0xFFFF if the first entry contains that number.
    pub count: u16,
    /// Number of further pages that belong to this one.
    pub overflow: u32,
}

impl PageHeader {
    /// Reads a header from its bytes. Any bytes are accepted.
    pub fn parse(bytes: &[u8; PAGE_HEADER_BYTES]) -> Self {
        Self { id: u64_at(bytes, 0), flags: u16_at(bytes, 8), count: u16_at(bytes, 10), overflow: u32_at(bytes, 12) }
    }

    /// Encodes the header as bbolt stores it.
    pub fn to_bytes(&self) -> [u8; PAGE_HEADER_BYTES] {
        let mut bytes = [0; PAGE_HEADER_BYTES];
        bytes[..8].copy_from_slice(&self.id.to_le_bytes());
        bytes[8..10].copy_from_slice(&self.flags.to_le_bytes());
        bytes[10..12].copy_from_slice(&self.count.to_le_bytes());
        bytes[12..].copy_from_slice(&self.overflow.to_le_bytes());
        bytes
    }
}

/// The header of a bucket (bbolt's `InBucket`): where its pages begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BucketHeader {
    /// Number of its root page. 0 if the bucket is inline: its only leaf follows this header in the value.
    pub root: u64,
    /// bbolt's counter for `NextSequence`. etcd does not use it, so it is 0 in etcd's databases.
    pub sequence: u64,
}

impl BucketHeader {
    /// Reads a header from its bytes. Any bytes are accepted.
    pub fn parse(bytes: &[u8; BUCKET_HEADER_BYTES]) -> Self {
        Self { root: u64_at(bytes, 0), sequence: u64_at(bytes, 8) }
    }

    /// Encodes the header as bbolt stores it.
    pub fn to_bytes(&self) -> [u8; BUCKET_HEADER_BYTES] {
        let mut bytes = [0; BUCKET_HEADER_BYTES];
        bytes[..8].copy_from_slice(&self.root.to_le_bytes());
        bytes[8..].copy_from_slice(&self.sequence.to_le_bytes());
        bytes
    }
}

/// The metadata in pages 0 and 1, after the page's header (bbolt's `Meta`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// Page size in bytes. Not checked here: see [`PAGE_BYTES_MIN`] and [`PAGE_BYTES_MAX`].
    pub page_bytes: u32,
    /// Reserved by bbolt; always 0.
    pub flags: u32,
    /// The bucket that contains all other buckets.
    pub root: BucketHeader,
    /// Number of the page with the free list, or [`NO_FREELIST`].
    pub freelist: u64,
    /// The first page number that was never used: all pages of the database have lower numbers (bbolt's `pgid`, its
    /// high water mark).
    pub end: u64,
    /// ID of the transaction that wrote this page.
    pub txid: u64,
}

/// Why bytes are not valid metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MetaError {
    /// The first field is not [`MAGIC`]; this is what was read.
    #[error("it begins with {0:#010x} instead of bbolt's {MAGIC:#010x}")]
    Magic(u32),
    /// The format version is not [`VERSION`]; this is what was read.
    #[error("its version is {0}, but only {VERSION} is supported")]
    Version(u32),
    /// The stored checksum is wrong: the metadata is damaged.
    #[error("its checksum is {said:#018x}, but its content has {is:#018x}")]
    Checksum {
        /// The checksum that is stored.
        said: u64,
        /// The checksum of the content.
        is: u64,
    },
}

impl Meta {
    /// Reads metadata and verifies its checksum.
    ///
    /// # Errors
    /// [`MetaError`] if the magic number, the version or the checksum is wrong.
    pub fn parse(bytes: &[u8; META_BYTES]) -> Result<Self, MetaError> {
        let (magic, version) = (u32_at(bytes, 0), u32_at(bytes, 4));
        if magic != MAGIC {
            return Err(MetaError::Magic(magic));
        }
        if version != VERSION {
            return Err(MetaError::Version(version));
        }
        let (said, is) = (u64_at(bytes, CHECKSUM_AT), fnv64a(&bytes[..CHECKSUM_AT]));
        if said != is {
            return Err(MetaError::Checksum { said, is });
        }
        Ok(Self {
            page_bytes: u32_at(bytes, 8),
            flags: u32_at(bytes, 12),
            root: BucketHeader { root: u64_at(bytes, 16), sequence: u64_at(bytes, 24) },
            freelist: u64_at(bytes, 32),
            end: u64_at(bytes, 40),
            txid: u64_at(bytes, 48),
        })
    }

    /// Encodes the metadata as bbolt stores it, with a new checksum.
    pub fn to_bytes(&self) -> [u8; META_BYTES] {
        let mut bytes = [0; META_BYTES];
        let mut at = 0;
        let mut put = |field: &[u8]| {
            bytes[at..at + field.len()].copy_from_slice(field);
            at += field.len();
        };
        put(&MAGIC.to_le_bytes());
        put(&VERSION.to_le_bytes());
        put(&self.page_bytes.to_le_bytes());
        put(&self.flags.to_le_bytes());
        put(&self.root.to_bytes());
        for field in [self.freelist, self.end, self.txid] {
            put(&field.to_le_bytes());
        }
        let sum = fnv64a(&bytes[..CHECKSUM_AT]);
        bytes[CHECKSUM_AT..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }
}

/// One element of a branch page (bbolt's `branchPageElement`): a child page and the first key below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BranchElement {
    /// Offset of the key in bytes, counted from the first byte of this element.
    pub position: u32,
    /// Length of the key in bytes.
    pub key_bytes: u32,
    /// Number of the child page.
    pub child: u64,
}

impl BranchElement {
    /// Reads an element from its bytes. Any bytes are accepted.
    pub fn parse(bytes: &[u8; ELEMENT_BYTES]) -> Self {
        Self { position: u32_at(bytes, 0), key_bytes: u32_at(bytes, 4), child: u64_at(bytes, 8) }
    }

    /// Encodes the element as bbolt stores it.
    pub fn to_bytes(&self) -> [u8; ELEMENT_BYTES] {
        let mut bytes = [0; ELEMENT_BYTES];
        bytes[..4].copy_from_slice(&self.position.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.key_bytes.to_le_bytes());
        bytes[8..].copy_from_slice(&self.child.to_le_bytes());
        bytes
    }
}

/// One element of a leaf page (bbolt's `leafPageElement`). The value directly follows the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LeafElement {
    /// [`LEAF_IS_BUCKET`], or 0 for a plain entry.
    pub flags: u32,
    /// Offset of the key in bytes, counted from the first byte of this element.
    pub position: u32,
    /// Length of the key in bytes.
    pub key_bytes: u32,
    /// Length of the value in bytes.
    pub value_bytes: u32,
}

impl LeafElement {
    /// Reads an element from its bytes. Any bytes are accepted.
    pub fn parse(bytes: &[u8; ELEMENT_BYTES]) -> Self {
        Self {
            flags: u32_at(bytes, 0),
            position: u32_at(bytes, 4),
            key_bytes: u32_at(bytes, 8),
            value_bytes: u32_at(bytes, 12),
        }
    }

    /// Encodes the element as bbolt stores it.
    pub fn to_bytes(&self) -> [u8; ELEMENT_BYTES] {
        let mut bytes = [0; ELEMENT_BYTES];
        for (place, field) in
            bytes.chunks_exact_mut(4).zip([self.flags, self.position, self.key_bytes, self.value_bytes])
        {
            place.copy_from_slice(&field.to_le_bytes());
        }
        bytes
    }
}

/// The 64-bit FNV-1a hash of `bytes`, which bbolt uses as the checksum of its metadata.
pub fn fnv64a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3))
}

/// Borrows the `N` bytes at offset `at`; `None` if `bytes` ends before.
pub fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<&[u8; N]> {
    bytes.get(at..)?.first_chunk()
}

/// Little endian. Callers pass arrays that are long enough.
fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(*array_at(bytes, at).expect("callers pass whole arrays"))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*array_at(bytes, at).expect("callers pass whole arrays"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*array_at(bytes, at).expect("callers pass whole arrays"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Page 0 of a database that etcd 3.4.23 wrote.
    const REAL: [u8; META_BYTES] = [
        0xED, 0xDA, 0x0C, 0xED, 0x02, 0x00, 0x00, 0x00, 0x00, 0x10, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x03, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xFF, 0xFF, 0xFF, 0xFF,
        0xFF, 0xFF, 0xFF, 0xFF, 0x05, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0xED, 0x52, 0x38, 0x74, 0x1B, 0x40, 0x38, 0xD0,
    ];

    #[test]
    fn a_meta_page_that_etcd_wrote_is_read_and_written_the_same() {
        let meta = Meta::parse(&REAL).expect("good");
        assert_eq!((meta.page_bytes, meta.freelist), (4096, NO_FREELIST));
        assert_eq!(meta.to_bytes(), REAL);
    }

    #[test]
    fn a_flipped_bit_anywhere_in_a_meta_page_is_noticed() {
        for bit in 0..META_BYTES * 8 {
            let mut bytes = REAL;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Meta::parse(&bytes).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn checksums_are_fnv_1a() {
        assert_eq!(fnv64a(b""), 0xCBF2_9CE4_8422_2325);
        assert_eq!(fnv64a(b"foobar"), 0x8594_4171_F739_67E8);
    }

    proptest! {
        #[test]
        fn any_bytes_are_elements_and_come_back(bytes: [u8; 16]) {
            prop_assert_eq!(PageHeader::parse(&bytes).to_bytes(), bytes);
            prop_assert_eq!(BucketHeader::parse(&bytes).to_bytes(), bytes);
            prop_assert_eq!(BranchElement::parse(&bytes).to_bytes(), bytes);
            prop_assert_eq!(LeafElement::parse(&bytes).to_bytes(), bytes);
        }

        #[test]
        fn meta_data_round_trips(page_bytes: u32, flags: u32, numbers: [u64; 5]) {
            let root = BucketHeader { root: numbers[0], sequence: numbers[1] };
            let meta = Meta { page_bytes, flags, root, freelist: numbers[2], end: numbers[3], txid: numbers[4] };
            prop_assert_eq!(Meta::parse(&meta.to_bytes()), Ok(meta));
        }
    }
}
