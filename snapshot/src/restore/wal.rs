//! The write-ahead log of a restored member, byte for byte as `etcdutl snapshot restore` of etcd 3.5 writes it. The
//! new cluster's history starts with one entry for each member that is added.
//!
//! Each record is preceded by its length, little endian, whose top byte states the padding to eight bytes. The
//! CRC-32C of a record covers the data of all records up to and including its own.

use super::membership::{Membership, TERM};
use super::wire::Message;

/// The name of the first file: sequence number and first index, both 0.
pub(super) const FILE: &str = "0000000000000000-0000000000000000.wal";

/// etcd makes its log files this long, in bytes, and then starts the next. The rest of the file is zeros.
pub(super) const SEGMENT_BYTES: u64 = 64_000_000;

/// `walpb.Record.type`.
const METADATA: u64 = 1;
const ENTRY: u64 = 2;
const STATE: u64 = 3;
const CRC: u64 = 4;
const SNAPSHOT: u64 = 5;

/// `raftpb.EntryConfChange`.
const CONF_CHANGE: u64 = 1;

/// The records of the log, without the zeros after them.
pub(super) fn encode(membership: &Membership) -> Vec<u8> {
    let mut log = Log::default();
    log.record(CRC, None);
    log.record(METADATA, Some(Message::default().number(1, membership.own).number(2, membership.cluster_id).done()));
    log.record(SNAPSHOT, Some(Message::default().number(1, 0).number(2, 0).done()));
    for (member, index) in membership.members.iter().zip(1..) {
        let change = Message::default().number(1, 0).number(2, 0).number(3, member.id);
        let change = change.bytes(4, member.to_json().as_bytes()).done();
        let entry = Message::default().number(1, CONF_CHANGE).number(2, TERM).number(3, index);
        log.record(ENTRY, Some(entry.bytes(4, &change).done()));
    }
    let lowest = membership.ids().next().expect("a membership has a member");
    let state = Message::default().number(1, TERM).number(2, lowest).number(3, membership.index());
    log.record(STATE, Some(state.done()));
    let snapshot = Message::default().number(1, membership.index()).number(2, TERM);
    log.record(SNAPSHOT, Some(snapshot.bytes(3, &conf_state(membership)).done()));
    log.bytes
}

/// `raftpb.ConfState`: the voting members.
pub(super) fn conf_state(membership: &Membership) -> Vec<u8> {
    membership.ids().fold(Message::default(), |state, id| state.number(1, id)).number(5, 0).done()
}

#[derive(Default)]
struct Log {
    bytes: Vec<u8>,
    crc: u32,
}

impl Log {
    fn record(&mut self, kind: u64, data: Option<Vec<u8>>) {
        self.crc = crc32c::crc32c_append(self.crc, data.as_deref().unwrap_or_default());
        let record = Message::default().number(1, kind).number(2, self.crc.into());
        let record = match data {
            Some(data) => record.bytes(3, &data).done(),
            None => record.done(),
        };
        let padding = record.len().next_multiple_of(8) - record.len();
        let mark = if padding == 0 { 0 } else { (0x80 | padding as u64) << 56 };
        self.bytes.extend_from_slice(&(record.len() as u64 | mark).to_le_bytes());
        self.bytes.extend_from_slice(&record);
        self.bytes.resize(self.bytes.len() + padding, 0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::membership::NewMember;
    use super::super::membership::tests::three;
    use super::*;

    /// What `etcdutl snapshot restore` of 3.5.1 wrote.
    const GOLDEN: &[u8] = include_bytes!("../../tests/golden/restore/3.5.1.wal");

    #[test]
    fn the_log_is_that_of_etcdutl() {
        let log = encode(&Membership::new("a", &three(), "tok").expect("good"));
        assert_eq!(log, GOLDEN);
    }

    /// A record as a reader finds it in the log: kind, CRC, data.
    type Record = (u64, u64, Option<Vec<u8>>);

    /// A plain decoder, by etcd's rules.
    fn decode(mut log: &[u8]) -> Vec<Record> {
        let mut records = Vec::new();
        while let Some((head, rest)) = log.split_first_chunk::<8>() {
            let head = u64::from_le_bytes(*head);
            let length = (head & 0x00ff_ffff_ffff_ffff) as usize;
            let padding = if head >> 63 == 1 { (head >> 56 & 7) as usize } else { 0 };
            let (record, rest) = rest.split_at(length);
            let (zeros, rest) = rest.split_at(padding);
            assert!(zeros.iter().all(|b| *b == 0) && (length + padding).is_multiple_of(8));
            records.push(fields(record));
            log = rest;
        }
        assert!(log.is_empty());
        records
    }

    fn fields(mut record: &[u8]) -> Record {
        let (mut numbers, mut data) = ([0; 3], None);
        while let Some((&tag, rest)) = record.split_first() {
            let (value, rest) = varint(rest);
            record = rest;
            if tag & 7 == 2 {
                let (bytes, rest) = rest.split_at(value as usize);
                (data, record) = (Some(bytes.to_vec()), rest);
            } else {
                numbers[usize::from(tag >> 3)] = value;
            }
        }
        (numbers[1], numbers[2], data)
    }

    fn varint(bytes: &[u8]) -> (u64, &[u8]) {
        let end = bytes.iter().position(|b| b & 0x80 == 0).expect("ends");
        let value = bytes[..=end].iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f));
        (value, &bytes[end + 1..])
    }

    proptest! {
        #[test]
        fn every_log_reads_back_with_its_rolling_crc(
            names in prop::collection::btree_set("[a-zA-Z0-9<é\"-]{1,40}", 1..9), own in any::<prop::sample::Index>(), token in ".{0,20}",
        ) {
            let member = |(name, port): (&String, u16)| NewMember {
                name: name.clone(),
                peer_urls: (0..=port % 3).map(|n| format!("http://h{n}:{port}")).collect(),
            };
            let members: Vec<NewMember> = names.iter().zip(1000..).map(member).collect();
            let own = &members[own.index(members.len())].name;
            let membership = Membership::new(own, &members, &token)?;
            let records = decode(&encode(&membership));
            let kinds: Vec<u64> = records.iter().map(|r| r.0).collect();
            let expected = [vec![CRC, METADATA, SNAPSHOT], vec![ENTRY; members.len()], vec![STATE, SNAPSHOT]].concat();
            prop_assert_eq!(kinds, expected);
            let mut crc = 0;
            for (_, said, data) in &records {
                crc = crc32c::crc32c_append(crc, data.as_deref().unwrap_or_default());
                prop_assert_eq!(u64::from(crc), *said);
            }
            for (member, record) in membership.members.iter().zip(&records[3..]) {
                let data = record.2.as_deref().expect("an entry has data");
                prop_assert!(data.ends_with(member.to_json().as_bytes()));
            }
        }
    }
}
