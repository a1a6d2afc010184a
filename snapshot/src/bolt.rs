//! The vocabulary of bbolt's file: what stands where in a page, in both directions.
//!
//! A file is pages of one size. Pages 0 and 1 are meta pages; the one with the higher transaction id and a good
//! checksum counts and names the root. A page is a [`PageHeader`], then `count` elements of 16 bytes, then the keys
//! and values that they point at; what is larger than a page takes `overflow` pages more, which have no header.
//! Everything is little endian, as bbolt writes it on every machine that etcd supports.
//!
//! Only layouts stand here: what a file must look like as a whole is inspection's to say.

/// Bytes of a page's header.
pub const PAGE_HEADER_BYTES: usize = 16;
/// Bytes of an element of a leaf or branch page.
pub const ELEMENT_BYTES: usize = 16;
/// Bytes of a bucket's header, which is the value (or the value's beginning) of the bucket's element.
pub const BUCKET_HEADER_BYTES: usize = 16;
/// Bytes of the meta data behind a meta page's header.
pub const META_BYTES: usize = 64;

/// What a meta page begins with.
pub const MAGIC: u32 = 0xED0C_DAED;
/// The one version of the format that there is.
pub const VERSION: u32 = 2;
/// A meta page's `freelist` where the free pages are not written down, as etcd leaves it on Linux.
pub const NO_FREELIST: u64 = u64::MAX;

/// The page sizes that a file may have: bbolt takes the operating system's.
pub const PAGE_BYTES_MIN: u32 = 512;
pub const PAGE_BYTES_MAX: u32 = 1 << 20;

/// The longest key that bbolt accepts.
pub const KEY_BYTES_MAX: u32 = 32768;
/// The longest value that bbolt accepts.
pub const VALUE_BYTES_MAX: u32 = (1 << 31) - 2;

/// A page's flags: what kind of page it is.
pub mod page {
    pub const BRANCH: u16 = 0x01;
    pub const LEAF: u16 = 0x02;
    pub const META: u16 = 0x04;
    pub const FREELIST: u16 = 0x10;
}

/// The one flag of a leaf element: its value is a bucket.
pub const LEAF_IS_BUCKET: u32 = 0x01;

/// Where the checksum stands in the meta data, and so how much of it is summed.
const CHECKSUM_AT: usize = 56;

/// What every page begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PageHeader {
    /// The page's own number: its place in the file, in pages. 0 for the page of an inline bucket.
    pub id: u64,
    /// One of [`page`]'s.
    pub flags: u16,
    /// Elements.
    pub count: u16,
    /// Pages after this one that belong to it.
    pub overflow: u32,
}

impl PageHeader {
    pub fn parse(bytes: &[u8; PAGE_HEADER_BYTES]) -> Self {
        Self { id: u64_at(bytes, 0), flags: u16_at(bytes, 8), count: u16_at(bytes, 10), overflow: u32_at(bytes, 12) }
    }

    pub fn to_bytes(&self) -> [u8; PAGE_HEADER_BYTES] {
        let mut bytes = [0; PAGE_HEADER_BYTES];
        bytes[..8].copy_from_slice(&self.id.to_le_bytes());
        bytes[8..10].copy_from_slice(&self.flags.to_le_bytes());
        bytes[10..12].copy_from_slice(&self.count.to_le_bytes());
        bytes[12..].copy_from_slice(&self.overflow.to_le_bytes());
        bytes
    }
}

/// Where a bucket's pages begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BucketHeader {
    /// The page of its root; 0 where the bucket is inline: its one leaf follows this header in the value.
    pub root: u64,
    pub sequence: u64,
}

impl BucketHeader {
    pub fn parse(bytes: &[u8; BUCKET_HEADER_BYTES]) -> Self {
        Self { root: u64_at(bytes, 0), sequence: u64_at(bytes, 8) }
    }

    pub fn to_bytes(&self) -> [u8; BUCKET_HEADER_BYTES] {
        let mut bytes = [0; BUCKET_HEADER_BYTES];
        bytes[..8].copy_from_slice(&self.root.to_le_bytes());
        bytes[8..].copy_from_slice(&self.sequence.to_le_bytes());
        bytes
    }
}

/// The meta data of pages 0 and 1, behind the page's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// Bytes of a page.
    pub page_bytes: u32,
    pub flags: u32,
    /// The bucket of buckets.
    pub root: BucketHeader,
    /// The page of the free list, or [`NO_FREELIST`].
    pub freelist: u64,
    /// The first page number that was never used: what is in use ends before it (bbolt's `pgid`, its high water mark).
    pub end: u64,
    /// The transaction that wrote this page.
    pub txid: u64,
}

/// Why bytes are no meta data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MetaError {
    #[error("it begins with {0:#010x} instead of bbolt's {MAGIC:#010x}")]
    Magic(u32),
    #[error("its version is {0}, but only {VERSION} is supported")]
    Version(u32),
    #[error("its checksum is {said:#018x}, but its content has {is:#018x}")]
    Checksum { said: u64, is: u64 },
}

impl Meta {
    /// # Errors
    /// It is not meta data, or damaged.
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

    /// With its checksum.
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

/// One entry of a branch page: a child and the first key below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BranchElement {
    /// Where the key stands, counted from this element's first byte.
    pub position: u32,
    pub key_bytes: u32,
    /// The child's page.
    pub child: u64,
}

impl BranchElement {
    pub fn parse(bytes: &[u8; ELEMENT_BYTES]) -> Self {
        Self { position: u32_at(bytes, 0), key_bytes: u32_at(bytes, 4), child: u64_at(bytes, 8) }
    }

    pub fn to_bytes(&self) -> [u8; ELEMENT_BYTES] {
        let mut bytes = [0; ELEMENT_BYTES];
        bytes[..4].copy_from_slice(&self.position.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.key_bytes.to_le_bytes());
        bytes[8..].copy_from_slice(&self.child.to_le_bytes());
        bytes
    }
}

/// One entry of a leaf page. The value stands directly behind the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LeafElement {
    /// [`LEAF_IS_BUCKET`] or 0.
    pub flags: u32,
    /// Where the key stands, counted from this element's first byte.
    pub position: u32,
    pub key_bytes: u32,
    pub value_bytes: u32,
}

impl LeafElement {
    pub fn parse(bytes: &[u8; ELEMENT_BYTES]) -> Self {
        Self {
            flags: u32_at(bytes, 0),
            position: u32_at(bytes, 4),
            key_bytes: u32_at(bytes, 8),
            value_bytes: u32_at(bytes, 12),
        }
    }

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

/// FNV-1a over `bytes`, 64 bits: the checksum of meta data.
pub fn fnv64a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3))
}

/// The array of `N` bytes at `at`, where `bytes` reaches that far.
pub fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<&[u8; N]> {
    bytes.get(at..)?.first_chunk()
}

/// Little endian, at an offset that the array's type vouches for.
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
