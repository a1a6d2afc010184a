//! What must hold of the bucket, whatever happened: so many backups, each one listed and proven, and nothing else.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use backstay_archive::seal::{self, Identity};
use backstay_archive::store::s3::{S3Credentials, S3Settings, S3Store};
use backstay_archive::{Manifest, catalog, reader};
use backstay_protocol::{ClusterUuid, SnapshotName};
use backstay_tests::eventually;

use super::LONG;
use super::rig::Rig;

const OBJECT: &str = ".snapshot";
const MANIFEST: &str = ".manifest.json";

impl Rig {
    /// Waits until the bucket holds exactly `expected` backups of the cluster and nothing unfinished of anybody, then
    /// opens every one of them. The answer is their manifests, newest first.
    pub async fn proven(&self, cluster: &str, expected: usize) -> Result<Vec<Manifest>> {
        self.holds(cluster, expected).await?;
        let uuid: ClusterUuid = self.uuid(cluster).await?.parse()?;
        let (store, identity) = (self.store().await?, self.recovery()?);
        let mut manifests = Vec::new();
        for entry in catalog::list(&store, uuid).await? {
            let manifest = catalog::manifest(&store, uuid, entry.snapshot).await?;
            let manifest = manifest.with_context(|| format!("{} is listed without a manifest", entry.snapshot))?;
            reader::open(&store, &manifest, Some(&identity), tokio::io::sink()).await?;
            ensure!(manifest.cluster.as_str() == cluster && manifest.cluster_uuid == uuid, "{manifest:?}");
            manifests.push(manifest);
        }
        ensure!(manifests.len() == expected, "{} backups were opened, not {expected}", manifests.len());
        Ok(manifests)
    }

    /// Waits until the bucket holds exactly `expected` backups of the cluster, all of them listed, and nothing
    /// unfinished of anybody.
    pub async fn holds(&self, cluster: &str, expected: usize) -> Result<()> {
        let uuid = eventually(LONG, || self.uuid(cluster)).await?;
        eventually(LONG, || async {
            ensure!(self.s3.unfinished().await?.is_empty(), "unfinished: {:?}", self.s3.unfinished().await?);
            ensure!(self.s3.stray_parts()?.is_empty(), "stray parts: {:?}", self.s3.stray_parts()?);
            let (pairs, other) = sort(&self.s3.objects().await?);
            ensure!(other.is_empty(), "left over: {other:?}");
            let ours = pairs.iter().filter(|(folder, _)| *folder == uuid).count();
            ensure!(ours == expected, "{ours} backups, not {expected}: {pairs:?}");
            let listed = self.listed(cluster).await?;
            ensure!(listed.len() == expected, "{expected} backups, listed {listed:?}");
            Ok(())
        })
        .await
    }

    /// How many backups of the cluster are in the bucket now, with object and manifest.
    pub async fn count(&self, cluster: &str) -> Result<usize> {
        let uuid = self.uuid(cluster).await?;
        let (pairs, _) = sort(&self.s3.objects().await?);
        Ok(pairs.iter().filter(|(folder, _)| *folder == uuid).count())
    }

    /// Waits until a manifest of the cluster with that UUID stands in the bucket; NATS need not be there.
    pub async fn manifest_appears(&self, uuid: &str) -> Result<()> {
        eventually(LONG, || async {
            let objects = self.s3.objects().await?;
            ensure!(objects.keys().any(|k| k.starts_with(uuid) && k.ends_with(MANIFEST)), "only {objects:?}");
            Ok(())
        })
        .await
    }

    pub async fn store(&self) -> Result<S3Store> {
        let s3 = &self.s3;
        let credentials = S3Credentials {
            access_key_id: s3.access_key_id().into(),
            secret_access_key: s3.secret_access_key().into(),
            session_token: None,
        };
        let settings = S3Settings {
            bucket: s3.bucket().into(),
            region: s3.region().into(),
            endpoint: s3.endpoint().into(),
            credentials: Some(credentials),
            ..S3Settings::default()
        };
        Ok(S3Store::new(settings).await?)
    }

    /// The operator's recovery key: it opens every backup.
    pub fn recovery(&self) -> Result<Identity> {
        self.key_file("recovery.key")
    }

    /// A key that `init` made.
    pub fn key_file(&self, name: &str) -> Result<Identity> {
        let path = self.coordinators[0].folder.join(name);
        let text = std::fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
        Ok(seal::parse_identity(&text)?)
    }
}

/// A backup by its folder and name; something else by its key.
type Sorted = (Vec<(String, SnapshotName)>, Vec<String>);

/// Backups (object and manifest), and what is neither these nor a cluster's key.
fn sort(objects: &BTreeMap<String, u64>) -> Sorted {
    let (mut pairs, mut other) = (Vec::new(), Vec::new());
    for key in objects.keys() {
        let (folder, name) = key.split_once('/').unwrap_or(("", key));
        let stem = name.strip_suffix(OBJECT).or_else(|| name.strip_suffix(MANIFEST)).unwrap_or(name);
        let has = |suffix: &str| objects.contains_key(&format!("{folder}/{stem}{suffix}"));
        match format!("{stem}{OBJECT}").parse::<SnapshotName>() {
            Ok(parsed) if has(OBJECT) && has(MANIFEST) => {
                if name.ends_with(OBJECT) {
                    pairs.push((folder.to_owned(), parsed));
                }
            }
            _ if name == "key.age" || folder == "names" => {}
            _ => other.push(key.clone()),
        }
    }
    (pairs, other)
}

#[test]
fn what_is_no_backup_is_found() {
    let (uuid, name) = ("0-1", "FFFFFFFF9A99FBF6");
    let keys = |names: &[&str]| names.iter().map(|n| (format!("{uuid}/{n}"), 1)).collect::<BTreeMap<_, _>>();
    let (object, manifest) = (format!("{name}.snapshot"), format!("{name}.manifest.json"));
    let (pairs, other) = sort(&keys(&["key.age", &object, &manifest]));
    assert!(pairs.len() == 1 && other.is_empty(), "{pairs:?} {other:?}");
    for lone in [object.as_str(), manifest.as_str(), "intents/x.json", "probe"] {
        let (pairs, other) = sort(&keys(&["key.age", lone]));
        assert!(pairs.is_empty() && other.len() == 1, "{lone}: {pairs:?} {other:?}");
    }
}
