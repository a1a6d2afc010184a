//! A coordinator in memory, for tests of what the command line sends and prints.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backstay_protocol::SnapshotName;
use backstay_protocol::api::{
    Action, Answer, ApiError, ApplyRequest, ApplyResponse, DeleteRequest, DeleteResponse, GetRequest, GetResponse,
    check_version,
};
use backstay_protocol::resource::{Resource, Version};
use backstay_protocol::selector::Selector;
use backstay_protocol::subject::{Subject, Verb};
use backstay_protocol::types::{self, TypeDefinition};
use serde::Serialize;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::api::{CallError, Transport};
use super::console::{Console, Failure};
use super::interrupt::Interrupts;

/// Keeps resources and counts versions; clones share what they keep.
#[derive(Debug, Clone, Default)]
pub struct Coordinator {
    state: Arc<Mutex<State>>,
}

type Change = Box<dyn FnOnce(&mut Resource) + Send>;

#[derive(Default)]
struct State {
    resources: Vec<Resource>,
    notes: Vec<String>,
    refused: Option<(String, String)>,
    absent: bool,
    earlier: bool,
    calls: Vec<String>,
    /// What somebody else does to a resource before the next change is taken.
    sooner: Option<Change>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("resources", &self.resources).finish_non_exhaustive()
    }
}

impl Coordinator {
    pub fn with(resources: impl IntoIterator<Item = Resource>) -> Self {
        let coordinator = Self::default();
        coordinator.locked(|state| state.resources = resources.into_iter().collect());
        coordinator
    }

    pub fn absent() -> Self {
        let coordinator = Self::default();
        coordinator.locked(|state| state.absent = true);
        coordinator
    }

    /// Of a build that can only delete, takes a restore of a named backup alone, and tells of backups by their names alone.
    pub fn earlier(self) -> Self {
        self.locked(|state| state.earlier = true);
        self
    }

    pub fn noting(self, note: &str) -> Self {
        self.locked(|state| state.notes.push(note.to_owned()));
        self
    }

    /// Somebody else changes the resource just before the next change of ours comes.
    pub fn changing_before_the_next_apply(self, change: impl FnOnce(&mut Resource) + Send + 'static) -> Self {
        self.locked(|state| state.sooner = Some(Box::new(change)));
        self
    }

    /// Refuses to apply or delete the resource with this id.
    pub fn refusing(self, id: &str, reason: &str) -> Self {
        self.locked(|state| state.refused = Some((id.to_owned(), reason.to_owned())));
        self
    }

    /// The resource becomes this, as if its owner wrote it.
    pub fn put(&self, resource: Resource) {
        self.locked(|state| {
            let same =
                |r: &Resource| r.metadata.kind == resource.metadata.kind && r.metadata.id == resource.metadata.id;
            match state.resources.iter().position(same) {
                Some(at) => state.resources[at] = resource,
                None => state.resources.push(resource),
            }
        });
    }

    pub fn remove(&self, id: &str) {
        self.locked(|state| state.resources.retain(|r| r.metadata.id != id));
    }

    /// Whether it answers.
    pub fn answers(&self, answers: bool) {
        self.locked(|state| state.absent = !answers);
    }

    pub fn ids(&self) -> Vec<String> {
        self.locked(|state| state.resources.iter().map(|r| r.metadata.id.clone()).collect())
    }

    pub fn resources(&self) -> Vec<Resource> {
        self.locked(|state| state.resources.clone())
    }

    /// `VERB ID` of each change asked for since the last look, dry ones in brackets.
    pub fn calls(&self) -> Vec<String> {
        self.locked(|state| std::mem::take(&mut state.calls))
    }

    fn locked<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        act(&mut self.state.lock().expect("no test panics while it holds this"))
    }
}

impl State {
    fn place(&self, definition: &TypeDefinition, id: &str) -> Option<usize> {
        self.resources.iter().position(|r| r.metadata.kind == definition.name && r.metadata.id == id)
    }

    fn check(&self, id: &str) -> Result<(), ApiError> {
        match &self.refused {
            Some((refused, reason)) if refused == id => Err(ApiError::invalid(reason.clone())),
            _ => Ok(()),
        }
    }

    fn get(&self, definition: &TypeDefinition, request: &GetRequest) -> Result<GetResponse, ApiError> {
        let later = [&types::STORED_BACKUPS, &types::VERIFICATIONS, &types::COORDINATOR_STATUSES];
        if self.earlier && later.contains(&definition) {
            return Err(ApiError::invalid(format!("there is no type {:?}; there are: …", definition.plural())));
        }
        let selector: Selector = request.selector.parse().map_err(|_| ApiError::invalid("selector"))?;
        let wanted = |r: &&Resource| {
            r.metadata.kind == definition.name
                && (request.id.is_empty() || r.metadata.id == request.id)
                && selector.matches(&r.metadata.labels)
        };
        let items: Vec<Resource> = self.resources.iter().filter(wanted).cloned().collect();
        match items.is_empty() && !request.id.is_empty() {
            true => Err(absent(definition, &request.id)),
            false => Ok(GetResponse { items, ..GetResponse::default() }),
        }
    }

    fn apply(&mut self, definition: &TypeDefinition, request: ApplyRequest) -> Result<ApplyResponse, ApiError> {
        let ApplyRequest { mut resource, dry_run } = request;
        let id = resource.metadata.id.clone();
        self.calls.push(if dry_run { format!("[apply {id}]") } else { format!("apply {id}") });
        self.check(&id)?;
        if self.earlier && definition == &types::RESTORES {
            of_a_named_backup(&resource.spec)?;
        }
        resource.metadata.phase = "running".into();
        let place = self.place(definition, &id);
        if let (Some(change), Some(at)) = (self.sooner.take(), place) {
            change(&mut self.resources[at]);
            self.resources[at].metadata.version = Version::Number(7);
        }
        let before = place.map(|at| self.resources[at].clone());
        let version = match before.as_ref().map(|b| b.metadata.version) {
            Some(Version::Number(n)) => n,
            _ => 0,
        };
        check_version(resource.metadata.version, version)?;
        let same =
            before.as_ref().is_some_and(|b| b.spec == resource.spec && b.metadata.labels == resource.metadata.labels);
        resource.metadata.version = Version::Number(version + u64::from(!same));
        let action = match (&before, same) {
            (None, _) => Action::Created,
            (Some(_), true) => Action::Unchanged,
            (Some(_), false) => Action::Updated,
        };
        match place {
            _ if dry_run => {}
            Some(at) => self.resources[at] = resource.clone(),
            None => self.resources.push(resource.clone()),
        }
        Ok(ApplyResponse { action, before, resource, notes: self.notes.clone() })
    }

    fn delete(&mut self, definition: &TypeDefinition, request: &DeleteRequest) -> Result<DeleteResponse, ApiError> {
        let id = &request.id;
        self.calls.push(if request.dry_run { format!("[delete {id}]") } else { format!("delete {id}") });
        for (field, given) in [("force", request.force), ("dry_run", request.dry_run)] {
            if self.earlier && given {
                return Err(ApiError::invalid(format!("unknown field {field:?}")));
            }
        }
        self.check(id)?;
        let at = self.place(definition, id).ok_or_else(|| absent(definition, id))?;
        if !request.dry_run {
            self.resources.remove(at);
        }
        Ok(DeleteResponse {})
    }
}

/// What a coordinator of before said of a restore that names no backup.
fn of_a_named_backup(spec: &Value) -> Result<(), ApiError> {
    if spec.get("before").is_some() {
        return Err(ApiError::invalid(r#"unknown field "before" (spec.before)"#));
    }
    let name = spec["snapshot"].as_str().unwrap_or_default().parse::<SnapshotName>();
    name.map(drop).map_err(|error| ApiError::invalid(error.to_string()))
}

fn absent(definition: &TypeDefinition, id: &str) -> ApiError {
    ApiError::not_found(&format!("{}({}/{id})", definition.name, definition.namespace))
}

fn encode<A: Serialize>(result: Result<A, ApiError>) -> Vec<u8> {
    serde_json::to_vec(&Answer::from_result(result)).expect("an answer is plain data")
}

impl Transport for Coordinator {
    async fn call(&self, subject: &str, body: Vec<u8>, _: Duration) -> Result<Vec<u8>, CallError> {
        let Ok(Subject::Api { verb, plural }) = subject.parse() else { panic!("{subject} is not of the API") };
        let definition = types::by_plural(&plural).expect("a known type");
        self.locked(|state| {
            if state.absent {
                return Err(CallError::NoCoordinator { url: "nats://h".into(), cause: "absent".into() });
            }
            let read = "a well-formed request";
            Ok(match verb {
                Verb::Get => encode(state.get(definition, &serde_json::from_slice(&body).expect(read))),
                Verb::Apply => encode(state.apply(definition, serde_json::from_slice(&body).expect(read))),
                Verb::Delete => encode(state.delete(definition, &serde_json::from_slice(&body).expect(read))),
            })
        })
    }
}

/// Runs a command: what it printed on both outputs, or its failure as text.
///
/// # Errors
/// The command's failure, as text.
pub async fn capture(
    command: impl AsyncFnOnce(&mut Console<'_>) -> Result<(), Failure>,
) -> Result<(String, String), String> {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let result = command(&mut Console::of(&mut out, &mut err)).await;
    let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
    result.map(|()| (text(out), text(err))).map_err(|failure| failure.to_string())
}

/// Runs a command that follows something which never ends, and presses Ctrl-C: what is said. Time is tokio's and paused.
pub async fn interrupted_after_a_while(command: impl AsyncFnOnce(&mut Console<'_>) -> Result<(), Failure>) -> String {
    let (mut out, mut err, keys) = (Vec::new(), Vec::new(), CancellationToken::new());
    let mut console = Console::of(&mut out, &mut err);
    console.interrupts = Interrupts::Token(keys.clone());
    let presses = async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        keys.cancel();
    };
    let (ended, ()) = tokio::join!(command(&mut console), presses);
    let failure = ended.expect_err("interrupted");
    assert_eq!(failure.exit_code(), 130, "{failure}");
    failure.to_string()
}
