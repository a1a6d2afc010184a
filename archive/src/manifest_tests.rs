//! Manifests as they were always written, and whatever else is read as one.

use proptest::prelude::*;
use uuid::Uuid;

use super::*;

/// What a manifest of version 1 looks like on disk: readers of every later version must read it.
const GOLDEN: &str = include_str!("../tests/golden/manifest.json");

fn golden() -> Manifest {
    Manifest {
        format_version: 1,
        cluster: "talos-default".parse().expect("a name"),
        cluster_uuid: "c0ffee00-1234-4abc-8def-0123456789ab".parse().expect("a UUID"),
        machine: Some("4c4c4544-0039-3010-8048-b7c04f384432".parse().expect("a UUID")),
        snapshot: "FFFFFFFF9A99FBF6.snapshot".parse().expect("a name"),
        slot: "11111111-2222-4333-8444-555555555555".parse().expect("a UUID"),
        attempt: "66666666-7777-4888-8999-aaaaaaaaaaaa".parse().expect("a UUID"),
        trigger: Trigger::Interval,
        created_at: Timestamp { seconds: 1_701_184_523, nanos: 250_000_000 },
        origin: Origin {
            etcd_cluster_id: "cdf818194e3a8c32".into(),
            member_id: "8e9e05c52164694d".into(),
            etcd_version: "3.4.23".into(),
            revision: 1234,
        },
        seal: SealInfo {
            compression: "zstd".into(),
            encryption: "age".into(),
            recipients: vec!["age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p".into()],
        },
        snapshot_bytes: 20_480,
        snapshot_sha256: "a".repeat(64),
        sealed_bytes: 5_120,
        sealed_sha256: "b".repeat(64),
        agent_version: "0.1.0".into(),
        inspection: None,
        replaces: None,
        sequence: None,
        extra: Map::new(),
    }
}

fn inspected() -> Manifest {
    let contents = Contents {
        page_bytes: 4096,
        bytes_in_use: 16_384,
        entries: 321,
        total_key: None,
        storage_version: None,
        live_keys: Some(42),
        revision: 1240,
        compact_revision: Some(1200),
        status_hash: "0badcafe".into(),
        extra: Map::new(),
    };
    let inspection = Inspection {
        verdict: Verdict::Equal,
        compared_with: Some("91bc3c398fb3c146".into()),
        reason: None,
        hash_kv: Some("deadbeef".into()),
        hash_compact_revision: Some(1200),
        contents: Some(contents),
        promoted_learners: Vec::new(),
        extra: Map::new(),
    };
    Manifest { inspection: Some(inspection), ..golden() }
}

#[test]
fn an_inspection_is_written_as_it_always_was_and_later_fields_survive() {
    const INSPECTED: &str = include_str!("../tests/golden/manifest-inspected.json");
    assert_eq!(String::from_utf8(inspected().to_json()).expect("text"), INSPECTED);
    let later = INSPECTED.replace("\"entries\"", "\"later\": 1, \"entries\"").replace("\"equal\"", "\"later\"");
    let read = Manifest::from_json(later.as_bytes()).expect("readable").inspection.expect("there");
    assert_eq!(read.verdict, Verdict::Unknown);
    assert_eq!(read.contents.expect("there").extra["later"], 1);
}

#[test]
fn what_came_with_etcd_3_6_and_a_warning_are_written_and_left_out_where_there_is_nothing() {
    const LATER: &str = include_str!("../tests/golden/manifest-inspected-3.6.json");
    let mut manifest = inspected();
    let inspection = manifest.inspection.as_mut().expect("there");
    assert_eq!(inspection.warning(), None);
    inspection.promoted_learners = vec!["91bc3c398fb3c146".into()];
    let contents = inspection.contents.as_mut().expect("there");
    (contents.total_key, contents.storage_version) = (Some(42), Some("3.6.0".into()));
    assert_eq!(String::from_utf8(manifest.to_json()).expect("text"), LATER);
    assert_eq!(Manifest::from_json(LATER.as_bytes()).expect("readable"), manifest);
    let warning = manifest.inspection.expect("there").warning().expect("there is one");
    assert!(warning.contains("still lists 91bc3c398fb3c146 as a learner"), "{warning}");
}

#[test]
fn what_takes_the_place_of_another_is_written_as_it_always_was() {
    const REPLACES: &str = include_str!("../tests/golden/manifest-replaces.json");
    let snapshot = "FFFFFFFF9A99FBF7.snapshot".parse().expect("a name");
    let replaces = Replaced { etcd_cluster_id: "0123456789abcdef".into(), revision: 99, snapshot };
    let manifest = Manifest { replaces: Some(replaces), ..golden() };
    assert_eq!(String::from_utf8(manifest.to_json()).expect("text"), REPLACES);
    assert_eq!(Manifest::from_json(REPLACES.as_bytes()).expect("readable"), manifest);
}

#[test]
fn a_place_among_the_signed_is_written_as_it_always_was() {
    const SIGNED: &str = include_str!("../tests/golden/manifest-signed.json");
    let sequence = Sequence { number: 7, previous_sha256: Some("c".repeat(64)), extra: Map::new() };
    let manifest = Manifest { sequence: Some(sequence), ..golden() };
    assert_eq!(String::from_utf8(manifest.to_json()).expect("text"), SIGNED);
    assert_eq!(Manifest::from_json(SIGNED.as_bytes()).expect("readable"), manifest);
}

#[test]
fn version_one_is_written_as_it_always_was() {
    assert_eq!(String::from_utf8(golden().to_json()).expect("text"), GOLDEN);
    assert_eq!(Manifest::from_json(GOLDEN.as_bytes()).expect("readable"), golden());
}

#[test]
fn unknown_fields_survive_and_unknown_versions_are_refused() {
    let mut json: Value = serde_json::from_str(GOLDEN).expect("JSON");
    json["verdict"] = serde_json::json!({ "pages": "good", "depth": [1, 2] });
    let read = Manifest::from_json(json.to_string().as_bytes()).expect("readable");
    let written: Value = serde_json::from_slice(&read.to_json()).expect("JSON");
    assert_eq!(written, json);

    json["format_version"] = 2.into();
    let error = Manifest::from_json(json.to_string().as_bytes()).expect_err("of the future");
    assert!(error.to_string().contains("version 2"), "{error}");
    // A future version may look entirely different, and is still reported as such.
    let error = Manifest::from_json(br#"{"format_version": 3}"#).expect_err("of the future");
    assert!(matches!(error, ManifestError::UnknownVersion(3)), "{error}");
}

#[test]
fn every_missing_field_is_an_error_but_the_machine() {
    let json: Map<String, Value> = serde_json::from_str(GOLDEN).expect("JSON");
    for field in json.keys() {
        let mut less = json.clone();
        less.remove(field);
        let read = Manifest::from_json(&serde_json::to_vec(&less).expect("JSON"));
        assert_eq!(read.is_ok(), field == "machine", "without {field}: {read:?}");
    }
}

prop_compose! {
    fn manifests()(
        ids in prop::array::uniform4(1..u128::MAX), machine: bool, seconds in 1..9_999_999_999_i64,
        trigger in prop::sample::select(vec![Trigger::Manual, Trigger::Interval, Trigger::Once]),
        name in "[A-Za-z0-9][A-Za-z0-9_-]{0,62}", texts in prop::collection::vec(".{0,30}", 5),
        numbers in prop::array::uniform2(any::<u64>()), revision: i64, millis in 0..4_000_000_000_000_i64,
        recipients in prop::collection::vec(".{0,70}", 0..4), extra in prop::collection::vec(("x[a-z]{1,8}", any::<i64>()), 0..3),
    ) -> Manifest {
        Manifest {
            cluster: name.parse().expect("made to be a name"),
            cluster_uuid: ClusterUuid(Uuid::from_u128(ids[0])),
            machine: machine.then(|| MachineId(Uuid::from_u128(ids[1]))),
            snapshot: SnapshotName::from_unix_seconds(seconds).expect("in range"),
            slot: SlotId(Uuid::from_u128(ids[2])),
            attempt: AttemptId(Uuid::from_u128(ids[3])),
            trigger,
            created_at: Timestamp::from_millis(millis),
            origin: Origin { etcd_cluster_id: texts[0].clone(), member_id: texts[1].clone(), etcd_version: texts[2].clone(), revision },
            seal: SealInfo { compression: "zstd".into(), encryption: "age".into(), recipients },
            snapshot_bytes: numbers[0],
            sealed_bytes: numbers[1],
            agent_version: texts[3].clone(),
            extra: extra.into_iter().map(|(key, value)| (key, value.into())).collect(),
            ..golden()
        }
    }
}

proptest! {
    #[test]
    fn manifests_round_trip(manifest in manifests()) {
        let json = manifest.to_json();
        prop_assert!(json.len() < MANIFEST_MAX);
        prop_assert_eq!(Manifest::from_json(&json)?, manifest);
    }

    #[test]
    fn any_bytes_are_a_manifest_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Manifest::from_json(&bytes);
    }
}
