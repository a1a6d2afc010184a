//! Keys and values of the bucket `key`: revisions, and `mvccpb.KeyValue`, which is read without a copy.

use super::fault::ValueFault;

/// Separates main and sub in a revision.
const SEPARATOR: u8 = b'_';
/// Follows the revision in the key of a tombstone.
const TOMBSTONE: u8 = b't';

/// A key of the bucket `key` (etcd's `mvcc/revision.go`): when an entry was written. Ordered as the encoded keys are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Revision {
    /// The revision of the transaction; fits into an `i64`.
    pub main: u64,
    /// The number of the change within its transaction, from 0.
    pub sub: u32,
    /// The entry is a deletion: its key has a `t` behind the revision.
    pub tombstone: bool,
}

impl Revision {
    /// Length of an encoded revision in bytes; a tombstone's is one byte longer.
    pub const BYTES: usize = 17;

    /// Reads an encoded revision. `None` if etcd cannot have written these bytes.
    pub fn parse(key: &[u8]) -> Option<Self> {
        let (revision, rest) = key.split_first_chunk::<{ Self::BYTES }>()?;
        let tombstone = match rest {
            [] => false,
            [TOMBSTONE] => true,
            _ => return None,
        };
        let main = i64::from_be_bytes(*revision.first_chunk()?);
        let sub = u64::from_be_bytes(*revision.last_chunk()?);
        let main = u64::try_from(main).ok()?;
        let sub = u32::try_from(sub).ok().filter(|sub| *sub <= u32::MAX >> 1)?;
        (revision[8] == SEPARATOR).then_some(Self { main, sub, tombstone })
    }

    /// Encodes the revision. Returns a buffer and how many of its bytes belong to the key.
    pub fn to_bytes(self) -> ([u8; Self::BYTES + 1], usize) {
        let mut bytes = [TOMBSTONE; Self::BYTES + 1];
        bytes[..8].copy_from_slice(&self.main.to_be_bytes());
        bytes[8] = SEPARATOR;
        bytes[9..17].copy_from_slice(&u64::from(self.sub).to_be_bytes());
        (bytes, Self::BYTES + usize::from(self.tombstone))
    }
}

/// The value of a revision (`mvccpb.KeyValue` in etcd's `kv.proto`). A field that is absent is 0 or empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeyValue<'a> {
    /// The user's key.
    pub key: &'a [u8],
    /// The revision at which the key was created; 0 in a tombstone.
    pub create_revision: u64,
    /// The revision of this change; 0 in a tombstone.
    pub mod_revision: u64,
    /// How often the key was written since it was created, this change included; 0 in a tombstone.
    pub version: u64,
    /// The user's value; empty in a tombstone.
    pub value: &'a [u8],
    /// ID of the lease; 0 if there is none.
    pub lease: u64,
}

impl<'a> KeyValue<'a> {
    /// Reads the protobuf message. Unknown fields are skipped.
    ///
    /// # Errors
    /// [`ValueFault::Malformed`] if the bytes are not such a message.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ValueFault> {
        let mut this = Self::default();
        let mut rest = bytes;
        while !rest.is_empty() {
            let tag = varint(&mut rest).ok_or(ValueFault::Malformed)?;
            let field = field(tag, &mut rest).ok_or(ValueFault::Malformed)?;
            match (tag >> 3, field) {
                (1, Field::Bytes(key)) => this.key = key,
                (2, Field::Number(n)) => this.create_revision = n,
                (3, Field::Number(n)) => this.mod_revision = n,
                (4, Field::Number(n)) => this.version = n,
                (5, Field::Bytes(value)) => this.value = value,
                (6, Field::Number(n)) => this.lease = n,
                (1..=6, _) => return Err(ValueFault::Malformed),
                _ => {}
            }
        }
        Ok(this)
    }

    /// Reads the value of `revision` and checks that the two agree.
    ///
    /// # Errors
    /// [`ValueFault`] if this is not what etcd writes for that revision.
    pub fn of(revision: Revision, bytes: &'a [u8]) -> Result<Self, ValueFault> {
        let this = Self::parse(bytes)?;
        if revision.tombstone {
            let bare = Self { key: this.key, ..Self::default() };
            return if this == bare { Ok(this) } else { Err(ValueFault::Tombstone) };
        }
        // A restore that raises the revision leaves a revision with an empty value.
        if bytes.is_empty() {
            return Ok(this);
        }
        if this.mod_revision != revision.main {
            return Err(ValueFault::Revision);
        }
        if this.create_revision > this.mod_revision || this.create_revision == 0 || this.version == 0 {
            return Err(ValueFault::Version);
        }
        Ok(this)
    }
}

enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Fixed,
}

fn field<'a>(tag: u64, rest: &mut &'a [u8]) -> Option<Field<'a>> {
    if tag >> 3 == 0 {
        return None;
    }
    match tag & 7 {
        0 => varint(rest).map(Field::Number),
        1 => take(rest, 8).map(|_| Field::Fixed),
        2 => {
            let length = usize::try_from(varint(rest)?).ok()?;
            take(rest, length).map(Field::Bytes)
        }
        5 => take(rest, 4).map(|_| Field::Fixed),
        _ => None,
    }
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for (place, byte) in rest.iter().take(10).enumerate() {
        let bits = u64::from(byte & 0x7F);
        if place == 9 && bits > 1 {
            return None;
        }
        value |= bits << (7 * place);
        if byte & 0x80 == 0 {
            *rest = &rest[place + 1..];
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn revisions_round_trip_and_sort_like_their_bytes(
            a in (0..i64::MAX as u64, 0..u32::MAX >> 1, any::<bool>()), b in (0..4_u64, 0..3_u32, any::<bool>()),
        ) {
            let [a, b] = [a, b].map(|(main, sub, tombstone)| Revision { main, sub, tombstone });
            let (left, right) = (a.to_bytes(), b.to_bytes());
            prop_assert_eq!(Revision::parse(&left.0[..left.1]), Some(a));
            prop_assert_eq!(a.cmp(&b), left.0[..left.1].cmp(&right.0[..right.1]));
        }

        #[test]
        fn any_bytes_are_a_value_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = KeyValue::parse(&bytes);
            if let Some(revision) = Revision::parse(&bytes) {
                let (back, length) = revision.to_bytes();
                prop_assert_eq!(&back[..length], &bytes[..]);
            }
        }
    }

    #[test]
    fn a_value_of_etcd_is_read_and_what_contradicts_it_refused() {
        // put a b, as etcd 3.4.23 stores it.
        let bytes = b"\x0a\x01a\x10\x02\x18\x02\x20\x01\x2a\x01b";
        let at = |main, tombstone| Revision { main, sub: 0, tombstone };
        let value = KeyValue::of(at(2, false), bytes).expect("good");
        assert_eq!((value.key, value.value, value.version), (&b"a"[..], &b"b"[..], 1));
        assert_eq!(KeyValue::of(at(3, false), bytes), Err(ValueFault::Revision));
        assert_eq!(KeyValue::of(at(2, true), bytes), Err(ValueFault::Tombstone));
        assert_eq!(KeyValue::of(at(9, true), b"\x0a\x01a").map(|v| v.key), Ok(&b"a"[..]));
        assert_eq!(KeyValue::of(at(9, false), b"").map(|v| v.key), Ok(&b""[..]), "a bump");
        assert_eq!(KeyValue::of(at(2, false), &bytes[..bytes.len() - 1]), Err(ValueFault::Malformed));
        assert_eq!(KeyValue::of(at(2, false), b"\x0a\x01a\x10\x03\x18\x02\x20\x01"), Err(ValueFault::Version));
    }
}
