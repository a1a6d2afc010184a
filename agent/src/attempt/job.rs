//! The coordinator's request for a backup, checked once when it arrives: a job, or a refusal with the reason.

use std::path::PathBuf;
use std::time::Duration;

use backstay_archive::manifest::Trigger;
use backstay_archive::seal::{self, Identity};
use backstay_archive::store::s3::{ObjectSettings, S3Credentials, S3Settings};
use backstay_archive::writer::{Limits, Plan};
use backstay_protocol::bus::{self, RefusalCode, Refused, Report, StartBackup, store::Kind};
use backstay_protocol::{ClusterName, MachineId};
use prost::Message;
use zeroize::Zeroize;

use super::Backup;
use backstay_archive::store::spec::StoreSpec;

/// The deadline for the whole attempt if the command sets none.
const DEADLINE: Duration = Duration::from_secs(6 * 60 * 60);

/// How long a stream may be silent if the command does not say it.
const STALL: Duration = Duration::from_secs(60);

/// How many recipients a backup may have: each needs a stanza and a key agreement.
const RECIPIENTS_MAX: usize = 32;

/// Which agent this is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub cluster: ClusterName,
    pub machine: MachineId,
}

/// A backup to make, and where it goes.
#[derive(Debug)]
pub struct Job {
    pub backup: Backup,
    pub store: StoreSpec,
}

/// A refusal with its reason.
pub fn refuse(code: RefusalCode, text: impl Into<String>) -> Refused {
    Refused { code: code.into(), text: bus::clipped(&text.into()), newest_epoch: 0 }
}

impl Address {
    /// Checks that a command is for this agent.
    ///
    /// # Errors
    /// `WRONG_ADDRESS` if it is for another cluster or machine.
    pub fn check(&self, cluster: &str, machine: &str) -> Result<(), Refused> {
        if cluster == self.cluster.as_str() && machine.eq_ignore_ascii_case(&self.machine.to_string()) {
            return Ok(());
        }
        let text = format!(
            "the command is for machine {machine:?} of cluster {cluster:?}, but this is machine {} of cluster {:?}",
            self.machine,
            self.cluster.as_str()
        );
        Err(refuse(RefusalCode::WrongAddress, text))
    }
}

impl Job {
    /// Checks a command whose address and epoch were checked already. Credentials are decrypted with the agent's own
    /// identity. `s3_ca` is a CA to trust for S3, from the agent's settings.
    ///
    /// # Errors
    /// `INVALID`, with the field that is wrong.
    pub fn parse(command: StartBackup, identity: &Identity, s3_ca: Option<PathBuf>) -> Result<Self, Refused> {
        Self::parse_inner(command, identity, s3_ca).map_err(|text| refuse(RefusalCode::Invalid, text))
    }

    fn parse_inner(command: StartBackup, identity: &Identity, s3_ca: Option<PathBuf>) -> Result<Self, String> {
        let text = |e: backstay_protocol::NameError| e.to_string();
        if command.recipients.len() > RECIPIENTS_MAX {
            return Err(format!("more than {RECIPIENTS_MAX} recipients"));
        }
        let recipients = command.recipients.iter().map(|r| seal::parse_recipient(r));
        let plan = Plan {
            cluster: command.cluster.parse().map_err(text)?,
            cluster_uuid: command.cluster_uuid.parse().map_err(text)?,
            machine: Some(command.machine.parse().map_err(text)?),
            attempt: command.attempt.parse().map_err(text)?,
            slot: command.slot.parse().map_err(text)?,
            snapshot: command.snapshot.parse().map_err(text)?,
            trigger: trigger(command.trigger())?,
            recipients: recipients.collect::<Result<_, _>>().map_err(|e| e.to_string())?,
            agent_version: crate::VERSION.to_owned(),
            replaces: None,
            signing: None,
        };
        let limits = command.limits.unwrap_or_default();
        let or = |ms: u32, default| if ms == 0 { default } else { Duration::from_millis(ms.into()) };
        let rate = limits.upload_bytes_per_second;
        let backup = Backup {
            plan,
            limits: Limits { upload_bytes_per_second: (rate > 0).then_some(rate), ..Limits::default() },
            deadline: or(limits.deadline_ms, DEADLINE),
            stall: or(limits.stall_ms, STALL),
            etcd_cluster: (command.etcd_cluster_id != 0).then_some(command.etcd_cluster_id),
        };
        let store = store(command.store.and_then(|s| s.kind), identity, s3_ca)?;
        Ok(Self { backup, store })
    }

    /// A report of this attempt, without a state yet.
    pub fn report(&self, address: &Address) -> Report {
        let plan = &self.backup.plan;
        Report {
            version: backstay_protocol::VERSION,
            attempt: plan.attempt.to_string(),
            slot: plan.slot.to_string(),
            cluster: address.cluster.to_string(),
            cluster_uuid: plan.cluster_uuid.to_string(),
            machine: address.machine.to_string(),
            snapshot: plan.snapshot.to_string(),
            ..Report::default()
        }
    }
}

fn trigger(trigger: bus::Trigger) -> Result<Trigger, String> {
    match trigger {
        bus::Trigger::Manual => Ok(Trigger::Manual),
        bus::Trigger::Interval => Ok(Trigger::Interval),
        bus::Trigger::Once => Ok(Trigger::Once),
        bus::Trigger::Unspecified => Err("the command has a trigger that this version does not know".into()),
    }
}

/// The store in a command; credentials are decrypted with the agent's own identity.
///
/// # Errors
/// Why not, in words: the kind of store is unknown, its path is not absolute, it has no bucket, or the credentials are not
/// encrypted to this agent.
pub fn store(kind: Option<Kind>, identity: &Identity, ca_file: Option<PathBuf>) -> Result<StoreSpec, String> {
    match kind {
        None => Err("the command has a kind of store that this version does not know".into()),
        Some(Kind::Local(local)) if !local.path.starts_with('/') => {
            Err(format!("the path of the local store must be absolute, got {:?}", local.path))
        }
        Some(Kind::Local(local)) => Ok(StoreSpec::Local(local.path.into())),
        Some(Kind::S3(s3)) if s3.bucket.is_empty() => Err("bucket must be specified".into()),
        Some(Kind::S3(s3)) => {
            let credentials = credentials(&s3.sealed_credentials, identity)?;
            let bus::S3Store {
                bucket,
                region,
                endpoint,
                prefix,
                storage_class,
                server_side_encryption,
                kms_key_id,
                addressing,
                checksum,
                absent_is_denied,
                ..
            } = s3;
            let objects = ObjectSettings { storage_class, server_side_encryption, kms_key_id };
            // Empty, or a word of a later version: this agent finds out by itself.
            let (addressing, checksum) = (addressing.parse().unwrap_or_default(), checksum.parse().unwrap_or_default());
            let settings = S3Settings {
                bucket,
                region,
                endpoint,
                prefix,
                credentials,
                ca_file,
                ca_source: "ca in [s3]",
                objects,
                addressing,
                checksum,
                absent_is_denied,
            };
            Ok(StoreSpec::S3(Box::new(settings)))
        }
    }
}

/// Decrypts the credentials; `None` if there are none, which means the machine's own.
fn credentials(sealed: &[u8], identity: &Identity) -> Result<Option<S3Credentials>, String> {
    if sealed.is_empty() {
        return Ok(None);
    }
    let opened = seal::open_bytes(identity, sealed)
        .map_err(|e| format!("the storage credentials are not encrypted for this agent: {e}"))?;
    // The decoder's own words may quote what it decodes.
    let mut plain =
        bus::Credentials::decode(opened.as_slice()).map_err(|_| "the storage credentials are malformed".to_owned())?;
    let token = std::mem::take(&mut plain.session_token);
    let credentials = S3Credentials {
        access_key_id: std::mem::take(&mut plain.access_key_id),
        secret_access_key: std::mem::take(&mut plain.secret_access_key),
        session_token: (!token.is_empty()).then_some(token),
    };
    plain.secret_access_key.zeroize();
    Ok(Some(credentials))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::Path;

    fn command() -> StartBackup {
        let id = |n: u8| uuid::Uuid::from_bytes([n; 16]).to_string();
        StartBackup {
            version: 1,
            epoch: 1,
            attempt: id(1),
            slot: id(2),
            cluster: "prod".into(),
            cluster_uuid: id(3),
            machine: id(4),
            snapshot: "FFFFFFFF9A99FBF6.snapshot".into(),
            trigger: bus::Trigger::Manual.into(),
            store: Some(bus::Store { kind: Some(Kind::Local(bus::LocalStore { path: "/backups".into() })) }),
            recipients: vec![Identity::generate().to_public().to_string()],
            limits: Some(bus::Limits { deadline_ms: 1000, stall_ms: 0, upload_bytes_per_second: 0 }),
            etcd_cluster_id: 9,
        }
    }

    fn parse(change: impl FnOnce(&mut StartBackup), identity: &Identity) -> Result<Job, String> {
        let mut command = command();
        change(&mut command);
        Job::parse(command, identity, None).map_err(|refused| {
            assert_eq!(refused.code(), RefusalCode::Invalid);
            refused.text
        })
    }

    #[test]
    fn a_command_becomes_a_job() {
        let job = parse(|_| (), &Identity::generate()).expect("valid");
        assert_eq!(job.backup.deadline, Duration::from_secs(1));
        assert_eq!((job.backup.stall, job.backup.limits.upload_bytes_per_second), (STALL, None));
        assert_eq!(job.backup.etcd_cluster, Some(9));
        assert!(matches!(job.store, StoreSpec::Local(path) if path == Path::new("/backups")));
        assert_eq!(job.backup.plan.recipients.len(), 1);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let identity = Identity::generate();
        for (part, result) in [
            ("attempt ID", parse(|c| c.attempt = "x".into(), &identity)),
            ("cluster UUID", parse(|c| c.cluster_uuid.clear(), &identity)),
            ("snapshot name", parse(|c| c.snapshot = "../x".into(), &identity)),
            ("trigger", parse(|c| c.trigger = 77, &identity)),
            ("store", parse(|c| c.store = None, &identity)),
            ("absolute", parse(|c| c.store = local("x"), &identity)),
            ("age recipient", parse(|c| c.recipients.push("age1x".into()), &identity)),
            ("more than", parse(|c| c.recipients = vec![String::new(); RECIPIENTS_MAX + 1], &identity)),
        ] {
            let error = result.expect_err(part);
            assert!(error.contains(part), "{error}");
        }
    }

    fn local(path: &str) -> Option<bus::Store> {
        Some(bus::Store { kind: Some(Kind::Local(bus::LocalStore { path: path.into() })) })
    }

    #[test]
    fn credentials_open_only_to_the_agent_they_are_sealed_to() {
        let identity = Identity::generate();
        let plain = bus::Credentials {
            access_key_id: "AKIA".into(),
            secret_access_key: "s3cr3t".into(),
            session_token: "t0ken".into(),
        };
        let sealed = seal::seal_bytes(&[identity.to_public()], &plain.encode_to_vec()).expect("sealed");
        let with = |bytes: Vec<u8>| {
            move |c: &mut StartBackup| {
                let s3 =
                    bus::S3Store { bucket: "b".into(), sealed_credentials: bytes.into(), ..bus::S3Store::default() };
                c.store = Some(bus::Store { kind: Some(Kind::S3(s3)) });
            }
        };
        let job = parse(with(sealed.clone()), &identity).expect("ours");
        assert!(!format!("{job:?}").contains("s3cr3t") && !format!("{job:?}").contains("t0ken"));
        let StoreSpec::S3(settings) = job.store else { panic!("an S3 store") };
        let credentials = settings.credentials.expect("given");
        assert_eq!((credentials.access_key_id.as_str(), credentials.session_token.as_deref()), ("AKIA", Some("t0ken")));
        let error = parse(with(sealed), &Identity::generate()).expect_err("another agent's");
        assert!(error.contains("not encrypted for this agent"), "{error}");
        let odd = seal::seal_bytes(&[identity.to_public()], b"\xFFs3cr3t").expect("sealed");
        let error = parse(with(odd), &identity).expect_err("not a message");
        assert!(!error.contains("s3cr3t"), "{error}");
    }

    #[test]
    fn only_the_own_address_is_accepted() {
        let (cluster, machine) = ("prod".parse().expect("valid"), command().machine.parse().expect("valid"));
        let address = Address { cluster, machine };
        assert!(address.check("prod", &command().machine.to_uppercase()).is_ok());
        for (cluster, machine) in [("prod", ""), ("Prod", command().machine.as_str()), ("", "")] {
            assert_eq!(address.check(cluster, machine).expect_err("another").code(), RefusalCode::WrongAddress);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_job_or_a_refusal(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let identity = Identity::generate();
            if let Ok(command) = StartBackup::decode(bytes.as_slice()) {
                let _ = Job::parse(command, &identity, None);
            }
        }
    }
}
