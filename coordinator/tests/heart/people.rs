//! What people ask of a world and what they see there: requests of the API, records, backups; and what must be true at an end.

use std::sync::Arc;

use backstay_archive::manifest::Manifest;
use backstay_coordinator::api;
use backstay_coordinator::record::{self, ClusterRecord};
use backstay_protocol::api::{
    Answer, ApiError, ApplyRequest, ApplyResponse, DeleteRequest, DeleteResponse, ErrorCode, GetRequest, GetResponse,
};
use backstay_protocol::backstay_types::RunState;
use backstay_protocol::codec::ContentType;
use backstay_protocol::resource::Resource;
use backstay_protocol::spec::{BackupState, ManualBackupSpec, OverallStatusSpec, Spec};
use backstay_protocol::subject::{Subject, Verb};
use backstay_protocol::types::TypeDefinition;
use backstay_protocol::{Clock, Timestamp};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::world::{Process, World};

/// The cluster of most tests.
pub const ONE: &str = "one";

impl World {
    /// One request to whoever leads.
    pub async fn ask<T: DeserializeOwned + Default>(
        &self,
        verb: Verb,
        definition: &TypeDefinition,
        request: &impl Serialize,
    ) -> Result<T, ApiError> {
        let (process, term) = self.leader().await;
        let subject = Subject::Api { verb, plural: definition.plural() }.to_string();
        let body = serde_json::to_vec(request).expect("plain data");
        let answer = api::answer(&term, ContentType::Json, &subject, &body);
        let answer = process.while_it_leads(&term, answer).await;
        let gone = || ApiError::new(ErrorCode::Unavailable, "whoever led is gone");
        let answer: Answer<T> = ContentType::Json.decode(&answer.ok_or_else(gone)??).expect("an answer");
        answer.into_result()
    }

    pub async fn get(&self, definition: &TypeDefinition) -> Vec<Resource> {
        self.get_one(definition, "").await.expect("a list")
    }

    pub async fn get_one(&self, definition: &TypeDefinition, id: &str) -> Result<Vec<Resource>, ApiError> {
        let request = GetRequest { id: id.into(), ..GetRequest::default() };
        Ok(self.ask::<GetResponse>(Verb::Get, definition, &request).await?.items)
    }

    pub async fn apply_once<S: Spec>(&self, id: &str, spec: &S) -> Result<ApplyResponse, ApiError> {
        self.ask(Verb::Apply, S::definition(), &ApplyRequest { resource: Resource::of(id, spec), dry_run: false }).await
    }

    pub async fn dry_run<S: Spec>(&self, id: &str, spec: &S) -> Result<ApplyResponse, ApiError> {
        self.ask(Verb::Apply, S::definition(), &ApplyRequest { resource: Resource::of(id, spec), dry_run: true }).await
    }

    /// As the command line does: asked again where nobody can say whether it was done.
    pub async fn apply<S: Spec>(&self, id: &str, spec: &S) -> Result<ApplyResponse, ApiError> {
        loop {
            match self.apply_once(id, spec).await {
                Err(error) if error.code == ErrorCode::Unavailable => {
                    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
                }
                answer => return answer,
            }
        }
    }

    pub async fn delete(&self, definition: &TypeDefinition, id: &str, force: bool) -> Result<DeleteResponse, ApiError> {
        let request = DeleteRequest { id: id.into(), force, ..DeleteRequest::default() };
        self.ask(Verb::Delete, definition, &request).await
    }

    /// Asks for a backup now; the answer is the time that names it.
    pub async fn manual(&self, cluster: &str) -> i64 {
        let backupat = Timestamp::from_seconds(self.clock.now().seconds);
        let spec = ManualBackupSpec { backupat: Some(backupat) };
        self.apply(cluster, &spec).await.expect("a manual backup is accepted");
        backupat.seconds
    }

    /// Waits until nothing of the cluster is under way; its record then.
    pub async fn settled(&self, cluster: &str) -> Arc<ClusterRecord> {
        let name = cluster.parse().expect("a name");
        let settled = || {
            let record = self.leaders().pop()?.1.directory.get(&name)?.record.borrow().clone();
            (record.slot.is_none() && record.pending.is_empty() && record.status.is_some()).then_some(record)
        };
        self.until("the slot ends", settled).await
    }

    /// A manual backup, to its end.
    pub async fn back_up(&self, cluster: &str) -> Arc<ClusterRecord> {
        let at = self.manual(cluster).await;
        let name = cluster.parse().expect("a name");
        let begun = || {
            let record = self.leaders().pop()?.1.directory.get(&name)?.record.borrow().clone();
            record.handled.contains(&at).then_some(())
        };
        self.until("the slot is opened", begun).await;
        self.settled(cluster).await
    }

    /// The record as it is kept.
    pub async fn record(&self, cluster: &str) -> ClusterRecord {
        let key = record::entry(&cluster.parse().expect("a name"));
        self.kv().get(&key).await.expect("entries in memory answer").expect("it is kept").value
    }

    pub async fn overall(&self) -> OverallStatusSpec {
        let found = self.get(OverallStatusSpec::definition()).await;
        found.first().expect("there is one while somebody leads").typed().expect("its own words")
    }

    /// The manifests of all backups.
    pub fn manifests(&self) -> Vec<Manifest> {
        let keys = self.store.keys();
        let manifests = keys.iter().filter(|key| key.ends_with(".manifest.json"));
        let body = |key: &String| self.store.body(&backstay_archive::Key::new(key).expect("a key of ours"));
        manifests.map(|key| Manifest::from_json(&body(key)).expect("a manifest")).collect()
    }

    /// Attempts of a cluster that ended so, by what all processes counted.
    pub fn counted(&self, cluster: &str, result: &str) -> u64 {
        self.processes().iter().map(|process| process.counted(cluster, result)).sum()
    }

    /// What holds once a cluster's only trigger so far came to its end.
    pub async fn has_one_backup(&self, cluster: &str) {
        let kept = self.record(cluster).await;
        let manifests = self.manifests();
        assert_eq!(manifests.len(), 1, "one backup: {manifests:#?}\n{kept:#?}");
        let good: Vec<_> = kept.runs.latest_first().filter(|run| run.state == RunState::Ok).collect();
        assert_eq!(good.len(), 1, "{kept:#?}");
        assert_eq!((good[0].id, good[0].snapshot), (manifests[0].attempt, manifests[0].snapshot));
        assert_eq!(manifests[0].cluster_uuid, kept.uuid);
        let status = &kept.status.as_ref().expect("it has one").spec;
        assert_eq!((status.status, status.error.as_str()), (BackupState::Ok, ""), "{kept:#?}");
        assert!(
            kept.slot.is_none() && kept.pending.is_empty() && kept.runs.latest_first().all(|run| run.ended.is_some())
        );
        self.until("nothing is left in the store", || self.is_tidy().then_some(())).await;
        let overall = async || self.overall().await.lastbackupstatus;
        for _ in 0..100 {
            if overall().await.as_ref() == Some(status) {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
        assert_eq!(overall().await.as_ref(), Some(status), "the overall status follows");
    }

    /// Nothing lies about that is no backup.
    fn is_tidy(&self) -> bool {
        self.store.unfinished_count() == 0 && !self.store.keys().iter().any(|key| key.contains("/intents/"))
    }
}

impl Process {
    /// What becomes of `work` while this term lasts and the process lives.
    async fn while_it_leads<T>(
        &self,
        term: &backstay_coordinator::term::Term,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        tokio::select! {
            biased;
            () = term.cancel.cancelled() => None,
            () = self.until_death() => None,
            done = work => Some(done),
        }
    }

    pub fn counted(&self, cluster: &str, result: &str) -> u64 {
        let (mut registry, mut text) = (Registry::default(), String::new());
        self.attempts.register(&mut registry);
        encode(&mut text, &registry).expect("text takes it");
        let line = format!("backstay_attempts_total{{cluster=\"{cluster}\",result=\"{result}\"}} ");
        text.lines().find_map(|l| l.strip_prefix(&line)).map_or(0, |n| n.parse().expect("a number"))
    }
}
