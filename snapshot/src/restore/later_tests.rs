//! Compares restores with those of etcd 3.6.14 and 3.7.1 of their own databases. `tests/golden/restore/RELEASE-plain`
//! is without a raised revision; `-bumped` is raised by 1,000,000,000 and marked as compacted.

use serde_json::Value;

use super::membership::tests::member;
use super::tests::{Contents, contents, database, restore};
use super::*;
use crate::inspect::{self, Inspector};

const RELEASES: [&str; 2] = ["3.6", "3.7"];
const SNAP: &str = "0000000000000001-0000000000000003.snap";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

fn unpacked(file: &Path) -> Vec<u8> {
    zstd::decode_all(&std::fs::read(file).expect("readable")[..]).expect("packed")
}

/// What the release's own tool wrote.
fn golden(release: &str, kind: &str, file: &str) -> Vec<u8> {
    let file = folder().join(format!("golden/restore/{release}-{kind}")).join(file);
    if file.extension().is_some_and(|end| end == "zst") { unpacked(&file) } else { std::fs::read(file).expect("there") }
}

/// The database from which it was restored.
fn source(release: &str) -> Vec<u8> {
    let begins = format!("{release}-for-restore.");
    let files = std::fs::read_dir(folder().join("corpus")).expect("the corpus").map(|entry| entry.expect("an entry"));
    let mut found = files.filter(|file| file.file_name().to_string_lossy().starts_with(&begins));
    unpacked(&found.next().expect("in the corpus").path())
}

/// The options that the tool was given.
fn options(bump: Option<u64>) -> Options {
    let url = |host| format!("http://10.0.0.{host}:2380");
    let members = ["a", "b", "c"].iter().zip(1..).map(|(name, host)| member(name, &[&url(host)])).collect();
    Options { bump, token: "golden".into(), ..Options::new("a", members) }
}

fn membership() -> Membership {
    let Options { name, members, token, .. } = options(None);
    Membership::new(&name, &members, &token).expect("good")
}

/// Zeros at the end are cut off.
fn without_zeros(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    &bytes[..end]
}

#[test]
fn the_log_of_3_6_is_ours_byte_for_byte() {
    for kind in ["plain", "bumped"] {
        let log = wal::encode(&membership());
        assert_eq!(without_zeros(&golden("3.6", kind, wal::FILE)), without_zeros(&log), "{kind}");
    }
}

/// A protobuf message: numbers and bytes of its fields.
#[derive(Debug, PartialEq)]
enum Field {
    Number(u64),
    Bytes(Vec<u8>),
    Message(Vec<(u64, Field)>),
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let end = bytes.iter().position(|byte| byte & 0x80 == 0)?;
    let value = bytes[..=end].iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f));
    Some((value, &bytes[end + 1..]))
}

/// The fields of a message, without zeros: 3.7 writes none, earlier releases do. `None` if it is not a message.
fn fields(mut bytes: &[u8]) -> Option<Vec<(u64, Field)>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let (tag, rest) = varint(bytes)?;
        let (value, rest) = varint(rest)?;
        bytes = rest;
        match tag & 7 {
            0 if value == 0 => {}
            0 => fields.push((tag >> 3, Field::Number(value))),
            2 => {
                let (inner, rest) = bytes.split_at_checked(usize::try_from(value).ok()?)?;
                bytes = rest;
                let field = self::fields(inner).map_or_else(|| Field::Bytes(inner.to_vec()), Field::Message);
                fields.push((tag >> 3, field));
            }
            _ => return None,
        }
    }
    Some(fields)
}

/// The records of a log without their checksums, which follow from the bytes.
fn records(mut log: &[u8]) -> Vec<Vec<(u64, Field)>> {
    let mut records = Vec::new();
    while let Some((head, rest)) = log.split_first_chunk::<8>() {
        let head = u64::from_le_bytes(*head);
        if head == 0 {
            break;
        }
        let padding = if head >> 63 == 1 { (head >> 56 & 7) as usize } else { 0 };
        let (record, rest) = rest.split_at((head & 0x00ff_ffff_ffff_ffff) as usize);
        let mut record = fields(record).expect("a record");
        record.retain(|(number, _)| *number != 2);
        records.push(record);
        log = rest.get(padding..).unwrap_or_default();
    }
    records
}

/// raft's snapshot in a `.snap` file: the old store as JSON, and raft's state. The order in which the store learned
/// of the members, and how it counted, varies in etcd's tool.
fn snapshot(file: &[u8]) -> (Value, Vec<(u64, Field)>) {
    let mut outer = fields(file).expect("a message");
    outer.retain(|(number, _)| *number == 2);
    let Some((_, Field::Message(mut inner))) = outer.pop() else { panic!("no snapshot in {outer:?}") };
    let at = inner.iter().position(|(number, _)| *number == 1).expect("data");
    let (_, Field::Bytes(json)) = inner.remove(at) else { panic!("no JSON in {inner:?}") };
    let mut store: Value = serde_json::from_slice(&json).expect("JSON");
    forget_order(&mut store);
    (store, inner)
}

fn forget_order(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields
                .retain(|name, _| !["createdindex", "modifiedindex", "stats"].contains(&name.to_lowercase().as_str()));
            fields.values_mut().for_each(forget_order);
        }
        Value::Array(items) => {
            items.iter_mut().for_each(forget_order);
            items.sort_by_key(Value::to_string);
        }
        _ => {}
    }
}

#[test]
fn logs_and_snaps_say_what_ours_say() {
    for release in RELEASES {
        for kind in ["plain", "bumped"] {
            let theirs = |file| golden(release, kind, file);
            assert_eq!(records(&theirs(wal::FILE)), records(&wal::encode(&membership())), "{release}-{kind}");
            assert_eq!(snapshot(&theirs(SNAP)), snapshot(&snap::encode(&membership())), "{release}-{kind}");
        }
    }
}

#[test]
fn the_contents_are_those_of_the_releases_own_restores() {
    let home = tempfile::tempdir().expect("folder");
    for release in RELEASES {
        for (kind, bump) in [("plain", None), ("bumped", Some(DEFAULT_BUMP))] {
            let at = home.path().join(format!("{release}-{kind}"));
            restore(&at, options(bump), &source(release)).expect("restored");
            // The tools leave the old voters there, although the logs contain the new ones.
            let read = |bytes: &[u8]| -> Contents {
                let mut all = contents(bytes).expect("good");
                all.get_mut("meta").and_then(|meta| meta.remove(&b"confState"[..])).expect("who votes");
                all
            };
            let (theirs, ours) = (read(&golden(release, kind, "db.zst")), read(&database(&at)));
            assert_eq!(theirs.keys().collect::<Vec<_>>(), ours.keys().collect::<Vec<_>>(), "{release}-{kind}");
            for (bucket, entries) in &theirs {
                assert_eq!(*entries, ours[bucket], "{release}-{kind}: the bucket {bucket}");
            }
        }
    }
}

/// `snapshot status` of 3.6 and later counts the row of a raised revision as a key; no client ever sees it.
#[test]
fn a_jump_is_one_key_more_for_the_status_and_none_for_clients() {
    for (release, kind, more) in [("3.6", "plain", 0), ("3.6", "bumped", 1), ("3.7", "plain", 0), ("3.7", "bumped", 1)]
    {
        let mut inspector = Inspector::new(inspect::Options::default());
        inspector.update(&golden(release, kind, "db.zst")).expect("good");
        let contents = inspector.finish().expect("good").contents.expect("small enough");
        assert_eq!(contents.live_keys, Some(6), "{release}-{kind}");
        assert_eq!(contents.seen_keys, Some(6 + more), "{release}-{kind}");
        assert_eq!(contents.about.storage_version, Some(format!("{release}.0")));
    }
}

/// Members that the database lists as learners, although the cluster may have promoted them, all vote in the restored
/// cluster.
#[test]
fn learners_of_the_old_cluster_are_gone() {
    let home = tempfile::tempdir().expect("folder");
    let mut learners = 0;
    for file in std::fs::read_dir(folder().join("corpus")).expect("the corpus").map(|entry| entry.expect("an entry")) {
        let name = file.file_name().to_string_lossy().into_owned();
        if !name.ends_with(".zst") || !(name.contains("-learner.") || name.contains("-promoted.")) {
            continue;
        }
        let original = unpacked(&file.path());
        let is_learner = |database: &[u8]| {
            let members = contents(database).expect("good").remove("members").expect("members");
            members.values().any(|json| String::from_utf8_lossy(json).contains("isLearner"))
        };
        learners += usize::from(is_learner(&original));
        let at = home.path().join(&name);
        let restored = restore(&at, options(None), &original).expect("restored");
        let after = database(&at);
        assert!(!is_learner(&after), "{name}");
        let meta = contents(&after).expect("good").remove("meta").expect("meta");
        let conf: Value = serde_json::from_slice(&meta[&b"confState"[..]]).expect("JSON");
        let voters: Vec<u64> = conf["voters"].as_array().expect("voters").iter().filter_map(Value::as_u64).collect();
        assert!(voters.len() == 3 && voters.contains(&restored.member_id), "{name}: {conf}");
        assert!(
            conf.get("learners").is_none_or(|learners| learners.as_array().is_none_or(Vec::is_empty)),
            "{name}: {conf}"
        );
    }
    assert_eq!(learners, 2, "one of each release");
}
