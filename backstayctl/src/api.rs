//! The coordinator's API from the caller's side: typed calls over a transport that tests replace.

use std::future::Future;
use std::time::Duration;

use backstay_protocol::api::{
    Answer, ApiError, ApplyRequest, ApplyResponse, DeleteRequest, DeleteResponse, ErrorCode, GetRequest, GetResponse,
};
use backstay_protocol::codec::{ContentType, REQUEST_MAX};
use backstay_protocol::resource::Resource;
use backstay_protocol::subject::{Subject, Verb};
use backstay_protocol::types::{self, TypeDefinition};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// How long to wait for an answer that the coordinator can give by itself.
pub const QUICK: Duration = Duration::from_secs(5);
/// How long to wait for a change: a coordinator that has just taken over waits for its agents first.
pub const CHANGE: Duration = Duration::from_secs(20);
/// How long to wait for an answer for which the coordinator asks a store, which may fail slowly.
pub const STORE: Duration = Duration::from_secs(90);

fn patience(verb: Verb, definition: &TypeDefinition) -> Duration {
    let store: &[&TypeDefinition] = match verb {
        Verb::Get => &[&types::ETCD_BACKUPS, &types::STORED_BACKUPS],
        // The latest backup is found among all of a cluster's.
        Verb::Apply => &[&types::ETCD_BACKUP_S3_CONFIGS, &types::RESTORES, &types::VERIFICATIONS],
        Verb::Delete => &[&types::ETCD_BACKUP_S3_CONFIGS],
    };
    match verb {
        _ if store.contains(&definition) => STORE,
        Verb::Get => QUICK,
        Verb::Apply | Verb::Delete => CHANGE,
    }
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// NATS answers, but no coordinator does. The URL contains no password.
    #[error("no coordinator answers on {url} ({cause})")]
    NoCoordinator { url: String, cause: String },
    /// There is no connection to NATS. The URL contains no password.
    #[error(
        "cannot reach NATS on {url} ({cause}): check that nats-server is running there, or set another URL with --nats, \
         BACKSTAY_NATS_URL or a context (`backstayctl config`)"
    )]
    NoNats { url: String, cause: String },
    /// The coordinator probably received the request, but did not answer in time.
    #[error(
        "the coordinator on {url} did not answer within {} s, or NATS does not permit this user to ask it; it is \
         unknown whether the request was carried out: check with `backstayctl get`",
        .waited.as_secs()
    )]
    NoAnswer { url: String, waited: Duration },
    /// NATS does not permit the request, or the answer.
    #[error("NATS on {url} does not permit this user to do that: {cause}")]
    NotAllowed { url: String, cause: String },
    #[error(transparent)]
    Refused(#[from] ApiError),
    #[error("the request is too large: {0} bytes, and at most {REQUEST_MAX} are allowed")]
    TooLarge(usize),
    #[error(
        "the request is too large: {bytes} bytes, and NATS on {url} accepts at most {max_payload}: raise max_payload \
         in nats-server's configuration"
    )]
    TooLargeForNats { url: String, bytes: usize, max_payload: usize },
    #[error("the coordinator's answer on {subject} cannot be parsed: {cause}")]
    Malformed { subject: String, cause: String },
    /// A file or a setting of the connection cannot be used: nobody was asked. The text holds no secret.
    #[error("{0}")]
    Unusable(String),
    /// Something else went wrong on the way.
    #[error("the request to {url} failed: {cause}")]
    Transport { url: String, cause: String },
}

impl CallError {
    /// Whether the coordinator answered that there is no such resource.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused(error) if error.code == ErrorCode::NotFound)
    }

    /// The coordinator is of a build that does not have the type.
    fn is_unknown_type(&self) -> bool {
        matches!(self, Self::Refused(error)
            if error.code == ErrorCode::InvalidArgument && error.text.starts_with("there is no type "))
    }

    /// Whether the coordinator is too old to know this field of a request.
    pub fn is_unknown_field(&self, field: &str) -> bool {
        let Self::Refused(error) = self else { return false };
        error.code == ErrorCode::InvalidArgument
            && error.text.contains("unknown field")
            && error.text.contains(&format!("\"{field}\""))
    }

    /// Whether the coordinator took this text for a snapshot's name, and refused it.
    pub fn is_no_name(&self, text: &str) -> bool {
        matches!(self, Self::Refused(error) if error.text.starts_with(&format!("invalid snapshot name {text:?}")))
    }

    /// Whether the coordinator could not be reached, so that the failure is not about the request itself.
    pub fn is_absence(&self) -> bool {
        matches!(self, Self::NoCoordinator { .. } | Self::NoNats { .. })
    }

    /// Whether it may be over soon: another coordinator takes over, or NATS is away for a while.
    pub fn passes(&self) -> bool {
        match self {
            Self::NoCoordinator { .. } | Self::NoNats { .. } | Self::NoAnswer { .. } | Self::Transport { .. } => true,
            // A list that changed between its pages is a conflict.
            Self::Refused(refusal) => {
                matches!(refusal.code, ErrorCode::Unavailable | ErrorCode::Conflict | ErrorCode::Internal)
            }
            Self::NotAllowed { .. }
            | Self::TooLarge(_)
            | Self::TooLargeForNats { .. }
            | Self::Malformed { .. }
            | Self::Unusable(_) => false,
        }
    }
}

/// What was found; `None` where the coordinator is of a build that does not have the type. Any other refusal is one.
///
/// # Errors
/// Those of the call.
pub fn known<T>(found: Result<T, CallError>) -> Result<Option<T>, CallError> {
    match found {
        Err(error) if error.is_unknown_type() => Ok(None),
        found => found.map(Some),
    }
}

/// Carries one JSON request to a subject and brings the JSON answer.
pub trait Transport {
    fn call(
        &self,
        subject: &str,
        body: Vec<u8>,
        wait: Duration,
    ) -> impl Future<Output = Result<Vec<u8>, CallError>> + Send;
}

/// Typed calls.
#[derive(Debug)]
pub struct Api<T> {
    transport: T,
}

impl<T: Transport> Api<T> {
    pub fn new(transport: T) -> Self {
        Self { transport }
    }

    /// All resources of a type that `request` selects, in as many answers as they need.
    ///
    /// # Errors
    /// NATS or the coordinator does not answer, or the coordinator refuses the request.
    pub async fn get(&self, definition: &TypeDefinition, request: &GetRequest) -> Result<Vec<Resource>, CallError> {
        let mut request = request.clone();
        let mut items = Vec::new();
        loop {
            let answer: GetResponse = self.call(Verb::Get, definition, &request).await?;
            items.extend(answer.items);
            if answer.next.is_empty() {
                return Ok(items);
            }
            request.after = answer.next;
        }
    }

    /// One resource of a type, in the type's own namespace; `None` if there is none.
    ///
    /// # Errors
    /// NATS or the coordinator does not answer, or the coordinator refuses the request.
    pub async fn find(&self, definition: &TypeDefinition, id: &str) -> Result<Option<Resource>, CallError> {
        let request = GetRequest { id: id.to_owned(), ..GetRequest::default() };
        match self.get(definition, &request).await {
            Ok(items) => Ok(items.into_iter().next()),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Creates or changes a resource; with `dry_run`, only says what would happen.
    ///
    /// # Errors
    /// NATS or the coordinator does not answer, or the coordinator refuses the request.
    pub async fn apply(
        &self,
        definition: &TypeDefinition,
        resource: Resource,
        dry_run: bool,
    ) -> Result<ApplyResponse, CallError> {
        self.call(Verb::Apply, definition, &ApplyRequest { resource, dry_run }).await
    }

    /// Deletes a resource. An older coordinator does not know `force`: it deletes without asking about agents.
    ///
    /// # Errors
    /// NATS or the coordinator does not answer, or the coordinator refuses the request.
    pub async fn delete(&self, definition: &TypeDefinition, request: &DeleteRequest) -> Result<(), CallError> {
        let deleted: Result<DeleteResponse, CallError> = self.call(Verb::Delete, definition, request).await;
        match deleted {
            Err(error) if request.force && !request.dry_run && error.is_unknown_field("force") => {
                let plain = DeleteRequest { force: false, ..request.clone() };
                self.call(Verb::Delete, definition, &plain).await.map(|_: DeleteResponse| ())
            }
            other => other.map(drop),
        }
    }

    async fn call<Q: Serialize, A: DeserializeOwned + Default>(
        &self,
        verb: Verb,
        definition: &TypeDefinition,
        request: &Q,
    ) -> Result<A, CallError> {
        let subject = Subject::Api { verb, plural: definition.plural() }.to_string();
        let malformed = |cause: String| CallError::Malformed { subject: subject.clone(), cause };
        let body = ContentType::Json.encode(request).map_err(|e| malformed(e.to_string()))?;
        if body.len() > REQUEST_MAX {
            return Err(CallError::TooLarge(body.len()));
        }
        let answer = self.transport.call(&subject, body, patience(verb, definition)).await?;
        let answer: Answer<A> = serde_json::from_slice(&answer).map_err(|e| malformed(e.to_string()))?;
        Ok(answer.into_result()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backstay_protocol::types::CLUSTERS;

    struct Says(&'static str);

    impl Transport for Says {
        async fn call(&self, subject: &str, _: Vec<u8>, wait: Duration) -> Result<Vec<u8>, CallError> {
            assert_eq!((subject, wait), ("backstay.v1.api.get.clusters", QUICK));
            Ok(self.0.as_bytes().to_vec())
        }
    }

    async fn find(answer: &'static str) -> Result<Option<Resource>, String> {
        Api::new(Says(answer)).find(&CLUSTERS, "c").await.map_err(|e| e.to_string())
    }

    #[tokio::test]
    async fn answers_are_results_refusals_or_unreadable() {
        let found = find(r#"{"result":{"items":[{"metadata":{"id":"c","version":3},"spec":{}}]}}"#).await;
        assert_eq!(found.expect("an answer").expect("one").metadata.id, "c");
        assert_eq!(find(r#"{"result":{"items":[]}}"#).await, Ok(None));
        assert_eq!(find(r#"{"error":{"code":"not_found","text":"x"}}"#).await, Ok(None));
        assert_eq!(find(r#"{"error":{"code":"unavailable","text":"KV is away"}}"#).await, Err("KV is away".into()));
        for answer in ["", "{", "[]", "{}"] {
            assert!(find(answer).await.is_err(), "{answer}");
        }
    }

    #[test]
    fn only_a_type_that_is_unknown_is_passed_over() {
        let refused = |code, text: &str| known::<u8>(Err(ApiError::new(code, text.to_owned()).into()));
        assert_eq!(known(Ok(1)), Ok(Some(1)));
        assert_eq!(refused(ErrorCode::InvalidArgument, r#"there is no type "verifications"; there are: x"#), Ok(None));
        for (code, text) in [(ErrorCode::Unavailable, "KV is away"), (ErrorCode::InvalidArgument, "invalid selector")] {
            assert_eq!(refused(code, text).map_err(|error| error.to_string()), Err(text.to_owned()));
        }
    }

    #[test]
    fn only_what_asks_a_store_is_waited_for_long() {
        assert_eq!(patience(Verb::Get, &types::ETCD_BACKUPS), STORE);
        assert_eq!(patience(Verb::Get, &types::STORED_BACKUPS), STORE);
        assert_eq!(patience(Verb::Apply, &types::ETCD_BACKUP_S3_CONFIGS), STORE);
        assert_eq!(patience(Verb::Get, &types::ETCD_BACKUP_S3_CONFIGS), QUICK);
        assert_eq!(patience(Verb::Apply, &types::ETCD_MANUAL_BACKUPS), CHANGE);
    }

    #[tokio::test]
    async fn a_request_that_no_server_takes_is_not_sent() {
        let mut resource = Resource::default();
        resource.metadata.id = "x".repeat(REQUEST_MAX);
        let error = Api::new(Says("")).apply(&CLUSTERS, resource, false).await.expect_err("too large");
        assert!(matches!(error, CallError::TooLarge(_)), "{error}");
    }
}
