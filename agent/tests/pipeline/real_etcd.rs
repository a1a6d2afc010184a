//! The same with the real thing: etcd as it is installed on this machine.

use backstay_agent::attempt::Member;
use backstay_agent::etcd::{Etcd, EtcdSettings};
use backstay_agent::proof::settings::InspectionSettings;
use backstay_tests::{LoneEtcd, eventually};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::support::{LONG, Shelf, back_up};

struct RealEtcd {
    settings: EtcdSettings,
    _etcd: LoneEtcd,
    _data: TempDir,
}

impl RealEtcd {
    /// Starts a member of its own and waits until it answers. With certificates it takes only clients that have one of
    /// that CA.
    async fn up(certificates: Option<&Certificates>) -> Self {
        let data = tempfile::tempdir().expect("a folder");
        let mut arguments = vec!["--unsafe-no-fsync".to_owned()];
        if let Some(certificates) = certificates {
            arguments.push("--client-cert-auth".into());
            for (flag, name) in
                [("--cert-file", "server.crt"), ("--key-file", "server.key"), ("--trusted-ca-file", "ca.crt")]
            {
                arguments.extend([flag.into(), certificates.path(name).display().to_string()]);
            }
        }
        let scheme = if certificates.is_some() { "https" } else { "http" };
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let started = LoneEtcd::start(data.path(), "data", scheme, &arguments).await.expect("etcd is installed");
        let settings = EtcdSettings { endpoints: vec![started.client_url.clone()], ..EtcdSettings::default() };
        let settings = certificates.map_or(settings.clone(), |of| of.given(settings));
        let up = Self { settings, _etcd: started, _data: data };
        let answers = || async { up.etcd().connect().await?.revision().await };
        eventually(LONG, || async { Ok(answers().await?) }).await.expect("it serves");
        up
    }

    fn etcd(&self) -> Etcd {
        etcd(&self.settings)
    }

    fn member(&self) -> Member {
        member(self.etcd())
    }

    fn url(&self) -> &str {
        &self.settings.endpoints[0]
    }
}

fn member(etcd: Etcd) -> Member {
    Member { etcd, inspection: InspectionSettings::default() }
}

fn etcd(settings: &EtcdSettings) -> Etcd {
    Etcd::new(settings.clone()).expect("the settings fit")
}

/// What an etcd says to somebody whom it does not take.
async fn turned_away(settings: &EtcdSettings) -> String {
    match etcd(settings).connect().await {
        Err(error) => error.to_string(),
        Ok(mut connection) => connection.revision().await.expect_err("nobody should get in").to_string(),
    }
}

/// A CA, and certificates of a server at 127.0.0.1 and of a client, as files.
struct Certificates(TempDir);

impl Certificates {
    fn new() -> Self {
        let made = Self(tempfile::tempdir().expect("a folder"));
        let write = |name: &str, text: String| std::fs::write(made.path(name), text).expect("writable");
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        write("ca.crt", params.self_signed(&key).expect("a certificate").pem());
        let ca = Issuer::new(params, key);
        for name in ["server", "client"] {
            let key = KeyPair::generate().expect("a key");
            let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("a good name");
            // etcd's gateway is a client of its own server.
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
            write(&format!("{name}.crt"), params.signed_by(&key, &ca).expect("a certificate").pem());
            write(&format!("{name}.key"), key.serialize_pem());
        }
        made
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn given(&self, settings: EtcdSettings) -> EtcdSettings {
        let [ca, cert, key] = ["ca.crt", "client.crt", "client.key"].map(|name| Some(self.path(name)));
        EtcdSettings { ca, cert, key, ..settings }
    }
}

#[tokio::test]
async fn a_real_snapshot_becomes_a_backup() {
    let etcd = RealEtcd::up(None).await;
    let mut client = etcd_client::Client::connect([etcd.url()], None).await.expect("it answers");
    for n in 0..200 {
        client.put(format!("/registry/pods/{n}"), vec![n as u8; 3000], None).await.expect("a write");
    }
    let member = etcd.etcd().connect().await.expect("it answers").member().await.expect("a status");
    assert_eq!((member.learner, member.alarms.len(), member.leader_id), (false, 0, member.member_id));
    assert!(!member.etcd_version.is_empty() && member.raft_applied_index > 200, "{member:?}");

    let shelf = Shelf::new();
    let taken = back_up(shelf.once(), &etcd.member()).await.expect("a backup");
    let opened = shelf.open(&taken.manifest).await;
    assert_eq!(opened.len() as u64, taken.manifest.snapshot_bytes);
    assert_eq!(taken.manifest.origin.revision, 201);
    assert_eq!(taken.manifest.origin.etcd_cluster_id, format!("{:016x}", member.cluster_id));
    assert!(opened.len() > 200 * 3000);
    let digest: String = Sha256::digest(&opened).iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(digest, taken.manifest.snapshot_sha256);
}

#[tokio::test]
async fn an_alarm_shows_in_the_member() {
    let etcd = RealEtcd::up(None).await;
    let mut client = etcd_client::Client::connect([etcd.url()], None).await.expect("it answers");
    let member = etcd.etcd().connect().await.expect("it answers").member().await.expect("a status");
    let mut options = etcd_client::AlarmOptions::new();
    options.with_member(member.member_id);
    client
        .alarm(etcd_client::AlarmAction::Activate, etcd_client::AlarmType::Nospace, Some(options))
        .await
        .expect("an alarm");
    let member = etcd.etcd().connect().await.expect("it answers").member().await.expect("a status");
    assert_eq!(member.alarms, ["NOSPACE"]);
    let shelf = Shelf::new();
    back_up(shelf.once(), &etcd.member()).await.expect("a member without space is worth a backup");
}

#[tokio::test]
async fn an_etcd_that_asks_for_certificates() {
    let (ours, others) = (Certificates::new(), Certificates::new());
    let etcd = RealEtcd::up(Some(&ours)).await;
    let shelf = Shelf::new();
    let taken = back_up(shelf.once(), &etcd.member()).await.expect("a backup");
    assert_eq!(shelf.open(&taken.manifest).await.len() as u64, taken.manifest.snapshot_bytes);

    let settings = |change: &dyn Fn(&mut EtcdSettings)| {
        let mut settings = etcd.settings.clone();
        change(&mut settings);
        settings
    };
    // What the server says of it differs; that it lets nobody in does not.
    for (refused, advice) in [
        (settings(&|s| (s.cert, s.key) = (None, None)), "clients without a certificate"),
        (
            EtcdSettings { ca: etcd.settings.ca.clone(), ..others.given(etcd.settings.clone()) },
            "rejected this client certificate",
        ),
        (settings(&|s| (s.endpoints, s.ca) = (vec![etcd.url().replace("https", "http")], None)), "begin with https://"),
    ] {
        let error = turned_away(&refused).await;
        assert!(error.contains(advice) && !error.contains("linearizable"), "{error}");
    }
    let error = turned_away(&settings(&|s| s.ca = Some(others.path("ca.crt")))).await;
    assert!(error.contains(etcd.url()) && error.contains("certificate"), "{error}");
}

#[tokio::test]
async fn an_etcd_that_asks_who_one_is() {
    let etcd = RealEtcd::up(None).await;
    let mut client = etcd_client::Client::connect([etcd.url()], None).await.expect("it answers");
    client.put("/registry/secret", "x", None).await.expect("a write");
    client.user_add("root", "hunter2", None).await.expect("a user");
    client.role_add("root").await.expect("a role");
    client.user_grant_role("root", "root").await.expect("granted");
    client.user_add("somebody", "hunter2", None).await.expect("a user");
    client.auth_enable().await.expect("switched on");

    let known = |user: &str, password: &str| EtcdSettings {
        user: user.into(),
        password: password.into(),
        ..etcd.settings.clone()
    };
    let shelf = Shelf::new();
    let taken = back_up(shelf.once(), &member(self::etcd(&known("root", "hunter2")))).await.expect("a backup");
    assert!(taken.manifest.origin.revision > 1);
    // The password may come from a file.
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "hunter2\n").expect("writable");
    let from_file = EtcdSettings { password_file: Some(file.path().into()), ..known("root", "") };
    self::etcd(&from_file).connect().await.expect("it logs in").revision().await.expect("it may read");

    let error = turned_away(&known("root", "wr0ng")).await;
    assert!(error.contains("log in as a user") && !error.contains("wr0ng"), "{error}");
    let error = turned_away(&etcd.settings).await;
    assert!(error.contains("user name is empty"), "{error}");
    let error = turned_away(&known("somebody", "hunter2")).await;
    assert!(error.contains("permission denied"), "{error}");
}

#[tokio::test]
async fn keys_are_read_back_at_a_revision_and_whatever_their_size() {
    let real = RealEtcd::up(None).await;
    let mut client = etcd_client::Client::connect([real.url()], None).await.expect("it answers");
    // Together more than a client takes in one answer.
    for key in ["a", "b", "c", "d"] {
        client.put(key, vec![b'v'; 1_400_000], None).await.expect("taken");
    }
    let before = client.put("e", "last", None).await.expect("taken").header().expect("a header").revision();
    client.delete("b", None).await.expect("taken");
    let after = client.put("a", "again", None).await.expect("taken").header().expect("a header").revision();
    let mut connection = real.etcd().connect().await.expect("it answers");
    for (revision, limit, keys, asked) in [(before, 64, 5, 5), (after, 64, 4, 4), (before, 2, 5, 2), (1, 64, 0, 0)] {
        let sampled = connection.sample(revision, limit).await.expect("read back");
        assert_eq!((sampled.keys, sampled.asked, sampled.same), (keys, asked, asked), "at {revision}");
    }
}

#[tokio::test]
async fn keys_that_one_answer_cannot_hold_are_listed_one_by_one() {
    let real = RealEtcd::up(None).await;
    let mut client = etcd_client::Client::connect([real.url()], None).await.expect("it answers");
    // 70 MB of keys, of which an answer may have 64 MiB.
    const KEYS: u32 = 50;
    let mut revision = 0;
    for key in 0..KEYS {
        let key = [format!("{key:02}").as_bytes(), &vec![b'k'; 1_400_000]].concat();
        revision = client.put(key, "v", None).await.expect("taken").header().expect("a header").revision();
    }
    let mut connection = real.etcd().connect().await.expect("it answers");
    for (limit, asked) in [(64, KEYS), (KEYS - 1, KEYS - 1)] {
        let sampled = connection.sample(revision, limit).await.expect("read back");
        assert_eq!((sampled.keys, sampled.asked, sampled.same), (u64::from(KEYS), asked, asked), "{limit}");
    }
}
