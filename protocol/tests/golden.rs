//! The exact bytes of version 1, message by message: what an old reader finds on the bus, a new writer must
//! go on writing, and what an old writer sent, a new reader must go on reading.
//!
//! The files in `golden/` are hexadecimal, 32 bytes a line. `BACKSTAY_TEST_WRITE_GOLDEN=1 cargo test -p
//! backstay-protocol --test golden` writes those that are missing; one that is there is never overwritten.

#[path = "golden/messages.rs"]
mod messages;

use std::fmt::Debug;
use std::path::PathBuf;

use backstay_protocol::api::{Action, Answer, ApiError, ApplyRequest, ApplyResponse, GetRequest, GetResponse};
use backstay_protocol::bus::{self, Versioned};
use backstay_protocol::codec::ContentType;
use backstay_protocol::resource::{LABEL_CLUSTER, Resource};
use backstay_protocol::spec::{BackupConfiguration, ClusterSpec, Interval};
use prost::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Field 4095 as a later version might add it: a number, bytes, a fixed number.
const LATER_FIELDS: [&[u8]; 3] = [
    &[0xF8, 0xFF, 0x01, 0x2A],
    &[0xFA, 0xFF, 0x01, 0x03, b'n', b'e', b'w'],
    &[0xFD, 0xFF, 0x01, 0x01, 0x02, 0x03, 0x04],
];

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.hex"))
}

fn to_hex(bytes: &[u8]) -> String {
    let line = |line: &[u8]| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n";
    bytes.chunks(32).map(line).collect()
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).expect("hexadecimal digits");
    digits.chunks(2).map(byte).collect()
}

/// What the file of that name holds. `now` is what this build writes, for a file that is to be made.
fn golden(name: &str, now: &[u8]) -> Vec<u8> {
    let path = file(name);
    if !path.exists() && std::env::var_os("BACKSTAY_TEST_WRITE_GOLDEN").is_some() {
        std::fs::write(&path, to_hex(now)).expect("the folder can be written");
    }
    from_hex(&std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
}

/// One message of the bus: written as ever, read as ever, and read where a later version added a field.
fn pinned<M: Versioned + Debug + PartialEq>(name: &str, message: &M) {
    let bytes = golden(name, &message.encode_to_vec());
    assert_eq!(to_hex(&message.encode_to_vec()), to_hex(&bytes), "{name}: other bytes than version 1's");
    assert_eq!(&bus::decode::<M>(&bytes).expect(name), message, "{name}: read differently");
    for later in LATER_FIELDS {
        let extended = [&bytes[..], later].concat();
        assert_eq!(&bus::decode::<M>(&extended).expect(name), message, "{name}: a later field changes the rest");
    }
    // Cut anywhere it is an error or another message, never a panic, and never the whole.
    for end in 0..bytes.len() {
        assert_ne!(bus::decode::<M>(&bytes[..end]).as_ref(), Ok(message), "{name}: cut at {end}");
    }
}

#[test]
fn every_message_of_the_bus() {
    pinned("beat", &messages::beat());
    pinned("beat-without-etcd", &messages::beat_without_etcd());
    pinned("beat-restoring", &messages::beat_restoring());
    pinned("beat-put-back", &messages::beat_put_back());
    pinned("beat-with-time", &messages::beat_with_time());
    pinned("restore-prepare", &messages::restore_prepare());
    pinned("restore-switch", &messages::restore_switch());
    pinned("verify-command", &messages::verify_command());
    pinned("verify-reply", &messages::verify_reply());
    pinned("verify-reply-not-tried", &messages::verify_reply_not_tried());
    pinned("restore-reply", &messages::restore_reply());
    pinned("start-backup-s3", &messages::start_backup_s3());
    pinned("start-backup-s3-ways", &messages::start_backup_s3_ways());
    pinned("start-backup-local", &messages::start_backup_local());
    pinned("start-reply-accepted", &messages::accepted());
    pinned("start-reply-refused", &messages::refused());
    pinned("cancel-backup", &messages::cancel_backup());
    pinned("cancel-reply", &messages::cancel_reply());
    pinned("report-started", &messages::report(messages::started()));
    pinned("report-finished", &messages::report(messages::finished()));
    pinned("report-failed", &messages::report(messages::failed()));
    pinned("progress", &messages::progress());
}

#[test]
fn credentials_inside_their_seal() {
    let credentials = messages::credentials();
    let bytes = golden("credentials", &credentials.encode_to_vec());
    assert_eq!(to_hex(&credentials.encode_to_vec()), to_hex(&bytes));
    assert_eq!(bus::Credentials::decode(&bytes[..]), Ok(credentials));
}

#[test]
fn enumerations_keep_their_numbers() {
    use bus::{FailureCode, RefusalCode, Trigger, VerifyFailure};
    let names = |name: fn(i32) -> Option<&'static str>| (0..=20).map_while(name).collect::<Vec<_>>().join(" ");
    assert_eq!(
        names(|n| Trigger::try_from(n).ok().map(|e| e.as_str_name())),
        "TRIGGER_UNSPECIFIED TRIGGER_MANUAL TRIGGER_INTERVAL TRIGGER_ONCE"
    );
    assert_eq!(
        names(|n| RefusalCode::try_from(n).ok().map(|e| e.as_str_name())).replace("REFUSAL_CODE_", ""),
        "UNSPECIFIED BUSY STALE_EPOCH WRONG_ADDRESS UNKNOWN_VERSION INVALID STOPPING"
    );
    assert_eq!(
        names(|n| FailureCode::try_from(n).ok().map(|e| e.as_str_name())).replace("FAILURE_CODE_", ""),
        "UNSPECIFIED SOURCE STORE NAME_TAKEN SLOT_DONE CANCELLED DEADLINE CORRUPTION INTERNAL DISAGREEMENT"
    );
    assert_eq!(
        names(|n| VerifyFailure::try_from(n).ok().map(|e| e.as_str_name())).replace("VERIFY_FAILURE_", ""),
        "UNSPECIFIED BACKUP NOT_TRIED"
    );
}

#[test]
fn a_code_of_the_future_does_not_hide_the_message() {
    let mut report = messages::report(messages::failed());
    if let Some(bus::report::State::Failed(failed)) = &mut report.state {
        failed.code = 4711;
    }
    let read: bus::Report = bus::decode(&report.encode_to_vec()).expect("it is a report");
    let Some(bus::report::State::Failed(failed)) = read.state else { panic!("it failed") };
    assert_eq!((failed.code(), failed.text.as_str()), (bus::FailureCode::Unspecified, "the bucket is gone"));
}

fn resource() -> Resource {
    let interval = Some(Interval { seconds: 3600, nanos: 0 });
    let spec = ClusterSpec {
        kubernetesversion: "1.28.2".into(),
        talosversion: "1.5.5".into(),
        backupconfiguration: Some(BackupConfiguration { interval, enabled: None }),
        ..ClusterSpec::default()
    };
    let mut resource = Resource::of("talos-default", &spec);
    resource.metadata.labels.insert(LABEL_CLUSTER.into(), "talos-default".into());
    resource
}

/// One value in the API's three encodings.
fn encoded<T: Serialize + DeserializeOwned + Default + PartialEq + Debug>(name: &str, value: &T) {
    for content_type in ContentType::ALL {
        let name = format!("{name}.{}", content_type.as_str().trim_start_matches("application/"));
        let now = content_type.encode(value).expect("plain data");
        let bytes = golden(&name, &now);
        assert_eq!(to_hex(&now), to_hex(&bytes), "{name}: other bytes than version 1's");
        assert_eq!(&content_type.decode::<T>(&bytes).expect(&name), value, "{name}: read differently");
    }
}

#[test]
fn a_request_and_an_answer_in_each_encoding() {
    encoded("apply-request", &ApplyRequest { resource: resource(), dry_run: true });
    let selector = format!("{LABEL_CLUSTER}=talos-default");
    encoded("get-request", &GetRequest { selector, ..GetRequest::default() });
    let response = ApplyResponse {
        action: Action::Updated,
        before: None,
        resource: resource(),
        notes: vec!["this provider ignores If-None-Match".into()],
    };
    encoded("apply-answer", &Answer::from_result(Ok(response)));
    let refused: Answer<ApplyResponse> = Answer::from_result(Err(ApiError::invalid("bucket must be specified")));
    encoded("refused-answer", &refused);
}

#[test]
fn a_field_of_the_future_in_a_request_or_an_answer_is_no_error() {
    let later = serde_json::json!({ "selector": "a=b", "page": { "size": 7, "after": null } });
    let answer = serde_json::json!({ "result": { "items": [], "next": "x" }, "took_ms": 3 });
    for content_type in ContentType::ALL {
        let request = content_type.encode(&later).expect("plain data");
        let request: GetRequest = content_type.decode(&request).expect("known fields stand");
        assert_eq!(request.selector, "a=b");
        let answer = content_type.encode(&answer).expect("plain data");
        let answer: Answer<GetResponse> = content_type.decode(&answer).expect("known fields stand");
        assert_eq!(answer.into_result().map(|r| r.items.len()), Ok(0));
    }
}
