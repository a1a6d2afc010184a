//! `backups`: what is in the store, for people, with what the manifests say. An older coordinator reports the names only.

use backstay_daemon::units;
use backstay_protocol::Timestamp;
use backstay_protocol::api::GetRequest;
use backstay_protocol::backstay_types::{StoredBackupSpec, VerificationSpec};
use backstay_protocol::resource::{LABEL_CLUSTER, Resource};
use backstay_protocol::spec::{BackupSpec, ClusterSpec, OverallStatusSpec, Spec};

use super::api::{Api, Transport, known};
use super::console::{Console, Failure};
use super::listing::{self, WIDTH};
use super::output::View;
use super::output::table::Layout;

/// Prints the backups of a cluster, newest first; those of all clusters if it is empty.
///
/// # Errors
/// The cluster does not exist; NATS or the coordinator does not answer, or the coordinator refuses the request.
pub async fn run<T: Transport>(
    api: &Api<T>,
    cluster: &str,
    view: &View,
    now: Timestamp,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let clusters = match cluster {
        "" => {
            let mut names: Vec<String> = api
                .get(ClusterSpec::definition(), &GetRequest::default())
                .await?
                .into_iter()
                .map(|cluster| cluster.metadata.id)
                .collect();
            names.sort();
            names
        }
        name => {
            listing::must_be_name(name)?;
            vec![name.to_owned()]
        }
    };
    let mut items = Vec::new();
    for name in &clusters {
        items.extend(of_cluster(api, name).await?);
    }
    if items.is_empty() {
        store_is_there(api).await?;
    }
    let damaged = damaged(api).await?;
    let text = |items: &[Resource]| table(items, &damaged, cluster.is_empty(), view, now);
    listing::print::<StoredBackupSpec>(&items, view, text, console)?;
    let unread = listing::typed::<StoredBackupSpec>(&items).filter(|(_, backup)| !backup.error.is_empty()).count();
    match unread {
        0 => {}
        1 => console.remark("Note: one backup's manifest cannot be read: the coordinator's log says why")?,
        n => console
            .remark(&format!("Note: the manifests of {n} backups cannot be read: the coordinator's log says why"))?,
    }
    if items.is_empty() {
        let whose = if cluster.is_empty() { String::new() } else { format!(" of {cluster}") };
        console.remark(&format!("Note: there is no backup{whose} in the store"))?;
    }
    Ok(())
}

/// Nothing is listed: whether that is so because there is no store.
async fn store_is_there<T: Transport>(api: &Api<T>) -> Result<(), Failure> {
    let overall = api.get(OverallStatusSpec::definition(), &GetRequest::default()).await?;
    let errors = listing::typed::<OverallStatusSpec>(&overall).map(|(_, overall)| overall.configurationerror);
    match errors.into_iter().find(|error| !error.is_empty()) {
        None => Ok(()),
        Some(error) => Err(Failure::Store(error)),
    }
}

/// The backups of one cluster.
///
/// # Errors
/// The coordinator refuses, or does not answer.
pub async fn of_cluster<T: Transport>(api: &Api<T>, cluster: &str) -> Result<Vec<Resource>, Failure> {
    let request = GetRequest { selector: format!("{LABEL_CLUSTER}={cluster}"), ..GetRequest::default() };
    if let Some(found) = known(api.get(StoredBackupSpec::definition(), &request).await)? {
        return Ok(found);
    }
    let items = api.get(BackupSpec::definition(), &request).await?;
    Ok(items.iter().filter_map(|item| by_name(item, cluster)).collect())
}

/// The backups that a verification found damaged: cluster and name of each.
async fn damaged<T: Transport>(api: &Api<T>) -> Result<Vec<(String, String)>, Failure> {
    let items = known(api.get(VerificationSpec::definition(), &GetRequest::default()).await)?.unwrap_or_default();
    let one = |(item, spec): (&Resource, VerificationSpec)| {
        let failed = spec.standing().filter(|failed| failed.damaged)?;
        Some((item.metadata.id.clone(), failed.snapshot.to_owned()))
    };
    Ok(listing::typed::<VerificationSpec>(&items).filter_map(one).collect())
}

/// What the name alone shows.
fn by_name(item: &Resource, cluster: &str) -> Option<Resource> {
    let BackupSpec { createdat, snapshot, size: stored } = item.typed().ok()?;
    let spec = StoredBackupSpec { cluster: cluster.to_owned(), snapshot, createdat, stored, ..Default::default() };
    let mut resource = Resource::of(&item.metadata.id, &spec);
    resource.metadata.labels.clone_from(&item.metadata.labels);
    Some(resource)
}

fn table(items: &[Resource], damaged: &[(String, String)], of_all: bool, view: &View, now: Timestamp) -> String {
    let wide = view.is_wide();
    let more: &[&str] = if wide { &["STORED", "ENCRYPTED", "ETCD", "ETCD CLUSTER", "SHA256"] } else { &[] };
    let heading = ["NAME", "TIME", "AGE", "SIZE", "REVISION", "CHECKED"];
    let heading: Vec<&str> =
        of_all.then_some("CLUSTER").into_iter().chain(heading).chain(more.iter().copied()).collect();
    let rows = listing::typed::<StoredBackupSpec>(items).map(|(_, backup)| {
        let is_damaged = damaged.iter().any(|(cluster, name)| *cluster == backup.cluster && *name == backup.snapshot);
        let cells = [
            backup.snapshot,
            backup.createdat.map(Timestamp::rfc3339).unwrap_or_default(),
            backup.createdat.map(|at| units::span(now.since(at))).unwrap_or_default(),
            backup.size.map(units::bytes).unwrap_or_default(),
            backup.revision.map(|revision| revision.to_string()).unwrap_or_default(),
            if is_damaged { "damaged".into() } else { backup.proven },
        ];
        let encrypted = backup.encrypted.map(|yes| if yes { "yes" } else { "no" }.to_owned()).unwrap_or_default();
        let more = [units::bytes(backup.stored), encrypted, backup.etcdversion, backup.etcdclusterid, backup.sha256];
        let more = more.into_iter().filter(|_| wide);
        of_all.then_some(backup.cluster).into_iter().chain(cells).chain(more).collect()
    });
    Layout::of(view, WIDTH, "CLUSTER").table(&heading, rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Format;
    use crate::testing::{Coordinator, capture};

    const NOW: Timestamp = Timestamp { seconds: 1_702_166_400, nanos: 0 };

    fn stored(cluster: &str, age: i64, proven: &str) -> Resource {
        let known = !proven.is_empty();
        let spec = StoredBackupSpec {
            cluster: cluster.into(),
            snapshot: format!("FFFFFFFF9A8AF{:03X}.snapshot", age % 4096),
            createdat: Some(Timestamp::from_seconds(NOW.seconds - age)),
            stored: 7 * 1024 * 1024,
            size: known.then_some(20 * 1024 * 1024),
            revision: known.then_some(4711),
            proven: proven.into(),
            error: if known { String::new() } else { "its manifest cannot be read".into() },
            ..StoredBackupSpec::default()
        };
        Resource::of(format!("{cluster}-{age}"), &spec).in_cluster(cluster)
    }

    fn coordinator() -> Coordinator {
        Coordinator::with([
            Resource::of("b", &ClusterSpec::default()),
            Resource::of("a-cluster", &ClusterSpec::default()),
            Resource::of("empty", &ClusterSpec::default()),
            stored("a-cluster", 60, "pages+member"),
            stored("a-cluster", 90_000, "checksum"),
            stored("a-cluster", 200_000, ""),
            stored("b", 3_600, "pages"),
        ])
    }

    async fn print(coordinator: Coordinator, cluster: &str, format: Format) -> (String, String) {
        let (api, view) = (Api::new(coordinator), View::from(format));
        capture(async |console| run(&api, cluster, &view, NOW, console).await).await.expect("a list")
    }

    #[tokio::test]
    async fn the_table_of_backups_has_what_the_manifests_say() {
        let (table, said) = print(coordinator(), "a-cluster", Format::Table).await;
        insta::assert_snapshot!("backups", format!("{table}{said}"));
        let (table, _) = print(coordinator(), "", Format::Table).await;
        insta::assert_snapshot!("backups-of-all", table);
        assert!(table.lines().all(|line| line.chars().count() <= WIDTH), "{table}");
        let long = "a-cluster-whose-name-is-as-long-as-such-names-may-be-so-63-of-them";
        let items = [stored(&long[..63], 60, "pages+member")];
        let line = |fits| {
            let view = View { fits, ..View::default() };
            super::table(&items, &[], true, &view, NOW).lines().last().map(str::to_owned).expect("a line")
        };
        assert!(line(true).chars().count() <= WIDTH && line(false).starts_with(&long[..63]), "{}", line(false));
        insta::assert_snapshot!("backups-wide", print(coordinator(), "b", Format::Wide).await.0);
    }

    #[tokio::test]
    async fn a_backup_that_a_verification_found_damaged_is_not_shown_as_checked() {
        let coordinator = coordinator();
        let first = format!("FFFFFFFF9A8AF{:03X}.snapshot", 60);
        let failed = VerificationSpec {
            failedat: Some(NOW),
            failedsnapshot: first.clone(),
            faileddamaged: true,
            ..VerificationSpec::default()
        };
        coordinator.put(Resource::of("a-cluster", &failed));
        let (table, _) = print(coordinator, "a-cluster", Format::Table).await;
        let line = |name: &str| table.lines().find(|line| line.starts_with(name)).expect("listed").to_owned();
        assert!(line(&first).ends_with("   damaged"), "{table}");
        assert!(line(&format!("FFFFFFFF9A8AF{:03X}", 90_000 % 4096)).ends_with("   checksum"), "{table}");
    }

    #[tokio::test]
    async fn programs_read_what_get_prints() {
        let (text, _) = print(coordinator(), "", Format::Json).await;
        let read: Vec<Resource> =
            serde_json::Deserializer::from_str(&text).into_iter().collect::<Result<_, _>>().expect("resources");
        assert_eq!((read.len(), read[0].metadata.kind.as_str()), (4, "StoredBackups.backstay.dev"));
        assert_eq!(print(coordinator(), "b", Format::Name).await.0, "storedbackup/b-3600\n");
        let (table, said) = print(coordinator(), "empty", Format::Table).await;
        assert_eq!((table.lines().count(), said.as_str()), (1, "Note: there is no backup of empty in the store\n"));
    }

    #[tokio::test]
    async fn where_there_is_no_store_nothing_is_said_of_backups() {
        let broken = OverallStatusSpec { configurationerror: "not initialized".into(), ..Default::default() };
        for (clusters, asked) in [(vec![], ""), (vec![Resource::of("empty", &ClusterSpec::default())], "empty")] {
            let coordinator = Coordinator::with(clusters);
            coordinator.put(Resource::of("etcdbackup-overall-status", &broken));
            let (api, view) = (Api::new(coordinator), View::from(Format::Table));
            let said = capture(async |console| run(&api, asked, &view, NOW, console).await).await;
            assert_eq!(said, Err("backup storage is not available: not initialized (see `backstayctl status`)".into()));
        }
    }

    #[tokio::test]
    async fn a_coordinator_of_before_tells_the_names_alone() {
        let spec = BackupSpec {
            createdat: Some(Timestamp::from_seconds(NOW.seconds - 60)),
            snapshot: "FFFFFFFF9A8AF980.snapshot".into(),
            size: 7,
        };
        let old = Coordinator::with([Resource::of("b-1", &spec).in_cluster("b")]).earlier();
        let (table, said) = print(old, "b", Format::Table).await;
        assert!(table.ends_with("FFFFFFFF9A8AF980.snapshot   2023-12-09T23:59:00Z   1m\n"), "{table}");
        assert_eq!(said, "");
    }
}
