//! One of each message, with every field set to something that is told apart from the others.

use backstay_protocol::bus::report::State;
use backstay_protocol::bus::*;
use backstay_protocol::names::SnapshotName;

const ATTEMPT: &str = "66666666-7777-4888-8999-aaaaaaaaaaaa";
const SLOT: &str = "11111111-2222-4333-8444-555555555555";
const CLUSTER_UUID: &str = "c0ffee00-1234-4abc-8def-0123456789ab";
const MACHINE: &str = "4c4c4544-0039-3010-8048-b7c04f384432";

fn snapshot() -> String {
    SnapshotName::from_unix_seconds(1_702_166_400).expect("in range").to_string()
}

pub fn progress() -> Progress {
    Progress {
        version: 1,
        attempt: ATTEMPT.into(),
        bytes_read: 8_388_608,
        bytes_total: 1_073_741_824,
        bytes_stored: 1_048_576,
        parts_retried: 2,
    }
}

pub fn beat() -> Beat {
    Beat {
        version: 1,
        cluster: "talos-default".into(),
        machine: MACHINE.into(),
        agent_version: "0.1.0".into(),
        recipient: "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p".into(),
        started_at_ms: 1_702_166_400_123,
        attempt: ATTEMPT.into(),
        progress: Some(progress()),
        member: Some(Member {
            cluster_id: 0xcdf8_1819_4e3a_8c32,
            member_id: 0x8e9e_05c5_2164_694d,
            leader_id: 0x0123_4567_89ab_cdef,
            learner: true,
            etcd_version: "3.4.23".into(),
            db_size: 20_480,
            revision: 1_234,
            raft_index: 5_678,
            raft_applied_index: 5_677,
            alarms: vec!["NOSPACE".into(), "CORRUPT".into()],
        }),
        etcd_error: String::new(),
        beat_interval_ms: 5_000,
        ..Beat::default()
    }
}

pub fn beat_with_time() -> Beat {
    Beat { sent_at_ms: 1_702_166_405_678, ..beat() }
}

fn members() -> Vec<ListedMember> {
    let peer_urls = vec!["https://10.0.0.1:2380".into(), "https://10.0.0.2:2380".into()];
    vec![ListedMember { id: 0x8e9e_05c5_2164_694d, name: "m1".into(), peer_urls, learner: true }]
}

fn seat() -> MemberIdentity {
    MemberIdentity {
        control: "static-pod".into(),
        error: "the manifest is not there".into(),
        folder: "/var/lib/etcd".into(),
        free_bytes: 10_737_418_240,
        member_id: 0x8e9e_05c5_2164_694d,
        cluster_id: 0xcdf8_1819_4e3a_8c32,
        members: members(),
        ..MemberIdentity::default()
    }
}

fn restore_state() -> RestoreState {
    RestoreState {
        restore: SLOT.into(),
        step: RestoreStep::Switched.into(),
        error: "etcd does not start".into(),
        digest: vec![0x5A; 32].into(),
        bytes_done: 8_388_608,
        bytes_total: 1_073_741_824,
        aside: "/var/lib/etcd.before-restore-20231210T000000Z".into(),
        check: Some(MemberCheck {
            healthy: true,
            error: "no leader".into(),
            revision: 1_000_001_234,
            cluster_id: 0x0123_4567_89ab_cdef,
            member_id: 0xfedc_ba98_7654_3210,
            members: members(),
            hash_revision: 1_000_001_233,
            hash: 0xdead_beef,
            compact_revision: 1_000_001_200,
        }),
        new_cluster_id: 0x0123_4567_89ab_cdee,
        ..RestoreState::default()
    }
}

/// After a restore was put back, by an agent that says how its etcd is.
pub fn beat_put_back() -> Beat {
    let state = RestoreState {
        step: RestoreStep::Returned.into(),
        left: vec!["/var/lib/etcd.before-restore-20231210T000000Z.restored-and-put-back".into()],
        etcd: EtcdAfter::Down.into(),
        etcd_text: "etcd.service is failed (exit-code)".into(),
        ..restore_state()
    };
    Beat { seat: Some(MemberIdentity { etcd_version: "3.6.14".into(), ..seat() }), restore: Some(state), ..beat() }
}

pub fn beat_restoring() -> Beat {
    Beat { seat: Some(seat()), restore: Some(restore_state()), ..beat() }
}

pub fn restore_prepare() -> RestoreCommand {
    let plan = RestorePlan {
        cluster_uuid: CLUSTER_UUID.into(),
        snapshot: snapshot(),
        store: Some(Store { kind: Some(store::Kind::Local(LocalStore { path: "/var/backups".into() })) }),
        sealed_identity: b"age-encryption.org/v1 of a key".to_vec().into(),
        snapshot_sha256: vec![0xA5; 32].into(),
        snapshot_bytes: 1_073_741_824,
        members: members(),
        member_name: "m1".into(),
        token: SLOT.into(),
        bump: 1_000_000_000,
        aside_suffix: ".before-restore-20231210T000000Z".into(),
    };
    RestoreCommand { goal: RestoreGoal::Prepare.into(), plan: Some(plan), hash_revision: 0, ..restore_switch() }
}

pub fn restore_switch() -> RestoreCommand {
    RestoreCommand {
        version: 1,
        epoch: 1_702_166_400_123,
        restore: SLOT.into(),
        cluster: "talos-default".into(),
        machine: MACHINE.into(),
        goal: RestoreGoal::Switch.into(),
        plan: None,
        hash_revision: 1_000_001_234,
    }
}

pub fn verify_command() -> VerifyCommand {
    VerifyCommand {
        version: 1,
        epoch: 1_702_166_400_123,
        verify: SLOT.into(),
        cluster: "talos-default".into(),
        machine: MACHINE.into(),
        cluster_uuid: CLUSTER_UUID.into(),
        snapshot: snapshot(),
        store: Some(Store { kind: Some(store::Kind::Local(LocalStore { path: "/var/backups".into() })) }),
        sealed_identity: b"age-encryption.org/v1 of a key".to_vec().into(),
        snapshot_sha256: vec![0xA5; 32].into(),
        boot: true,
    }
}

pub fn verify_reply() -> VerifyReply {
    let verified = Verified {
        revision: 1_234,
        live_keys: 567,
        unknown: "too large".into(),
        etcd_version: "3.5.1".into(),
        hash_revision: 1_233,
        hash: 0xdead_beef,
        hash_unknown: "compacted".into(),
        sampled: 64,
        ..Verified::default()
    };
    let state = VerifyState {
        verify: SLOT.into(),
        ended: true,
        error: "it differs".into(),
        bytes_done: 8_388_608,
        bytes_total: 1_073_741_824,
        verified: Some(verified),
        ..VerifyState::default()
    };
    VerifyReply { version: 1, answer: Some(verify_reply::Answer::State(state)) }
}

pub fn verify_reply_not_tried() -> VerifyReply {
    let verified = Verified { auth_set_aside: true, ..Verified::default() };
    let state = VerifyState {
        verify: SLOT.into(),
        ended: true,
        error: "no room".into(),
        failure: VerifyFailure::NotTried.into(),
        verified: Some(verified),
        ..VerifyState::default()
    };
    VerifyReply { version: 1, answer: Some(verify_reply::Answer::State(state)) }
}

pub fn restore_reply() -> RestoreReply {
    RestoreReply { version: 1, answer: Some(restore_reply::Answer::State(restore_state())) }
}

pub fn beat_without_etcd() -> Beat {
    let etcd_error = "connection refused".into();
    Beat { attempt: String::new(), progress: None, member: None, etcd_error, ..beat() }
}

fn start_backup(store: store::Kind) -> StartBackup {
    StartBackup {
        version: 1,
        epoch: 1_702_166_400_456,
        attempt: ATTEMPT.into(),
        slot: SLOT.into(),
        cluster: "talos-default".into(),
        cluster_uuid: CLUSTER_UUID.into(),
        machine: MACHINE.into(),
        snapshot: snapshot(),
        trigger: Trigger::Interval.into(),
        store: Some(Store { kind: Some(store) }),
        recipients: vec!["age1one".into(), "age1two".into()],
        limits: Some(Limits { deadline_ms: 7_200_000, stall_ms: 60_000, upload_bytes_per_second: 10_485_760 }),
        etcd_cluster_id: 0xcdf8_1819_4e3a_8c32,
    }
}

pub fn start_backup_s3() -> StartBackup {
    start_backup(store::Kind::S3(S3Store {
        bucket: "mybucket".into(),
        region: "us-east-1".into(),
        endpoint: "http://127.0.0.1:9000".into(),
        prefix: "a/b".into(),
        sealed_credentials: b"age-encryption.org/v1\n".as_slice().into(),
        storage_class: "STANDARD_IA".into(),
        server_side_encryption: "aws:kms".into(),
        kms_key_id: "k".into(),
        ..S3Store::default()
    }))
}

/// With what a provider is known to want.
pub fn start_backup_s3_ways() -> StartBackup {
    start_backup(store::Kind::S3(S3Store {
        bucket: "mybucket".into(),
        addressing: "virtual".into(),
        checksum: "md5".into(),
        absent_is_denied: true,
        ..S3Store::default()
    }))
}

pub fn start_backup_local() -> StartBackup {
    start_backup(store::Kind::Local(LocalStore { path: "/srv/backups".into() }))
}

pub fn credentials() -> Credentials {
    Credentials { access_key_id: "access".into(), secret_access_key: "secret123".into(), session_token: "t".into() }
}

pub fn accepted() -> StartReply {
    StartReply { version: 1, answer: Some(start_reply::Answer::Accepted(Accepted { attempt: ATTEMPT.into() })) }
}

pub fn refused() -> StartReply {
    let refused =
        Refused { code: RefusalCode::StaleEpoch.into(), text: "epoch 3 is older than 4".into(), newest_epoch: 4 };
    StartReply { version: 1, answer: Some(start_reply::Answer::Refused(refused)) }
}

pub fn cancel_backup() -> CancelBackup {
    CancelBackup { version: 1, epoch: 1_702_166_400_456, attempt: ATTEMPT.into() }
}

pub fn cancel_reply() -> CancelReply {
    CancelReply { version: 1, cancelled: true }
}

pub fn report(state: State) -> Report {
    Report {
        version: 1,
        attempt: ATTEMPT.into(),
        slot: SLOT.into(),
        cluster: "talos-default".into(),
        cluster_uuid: CLUSTER_UUID.into(),
        machine: MACHINE.into(),
        at_ms: 1_702_166_405_789,
        snapshot: snapshot(),
        state: Some(state),
    }
}

pub fn started() -> State {
    State::Started(Started {})
}

pub fn finished() -> State {
    State::Finished(Finished {
        revision: 1_234,
        snapshot_bytes: 20_480,
        sealed_bytes: 5_120,
        snapshot_sha256: (0..32).collect::<Vec<u8>>().into(),
        parts_retried: 1,
    })
}

pub fn failed() -> State {
    State::Failed(Failed { code: FailureCode::Store.into(), text: "the bucket is gone".into() })
}
