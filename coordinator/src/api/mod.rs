//! The API: what is asked, by verb and type, and the answer.

mod apply;
mod damaged;
mod delete;
mod get;
mod restore;
mod seen;
pub mod service;

use std::sync::Arc;

use backstay_protocol::api::{self, Answer, ApiError, ErrorCode};
use backstay_protocol::codec::{CodecError, ContentType};
use backstay_protocol::subject::{Subject, Verb};
use backstay_protocol::types::{self, TypeDefinition};
use serde::Serialize;

use crate::kv::KvError;
use crate::term::Term;

/// Answers one request. `subject` names verb and type; the body and the answer are encoded as `content_type` says.
pub async fn handle(
    term: &Arc<Term>,
    content_type: ContentType,
    subject: &str,
    body: &[u8],
) -> Result<Vec<u8>, ApiError> {
    let Ok(Subject::Api { verb, plural }) = subject.parse() else {
        return Err(ApiError::invalid(format!("{subject:?} is not a subject of the API")));
    };
    let definition = types::by_plural(&plural).ok_or_else(|| unknown_type(&plural))?;
    match verb {
        Verb::Get => encode(content_type, get::get(term, definition, content_type, decode(content_type, body)?).await?),
        Verb::Apply => encode(content_type, apply::apply(term, definition, decode(content_type, body)?).await?),
        Verb::Delete => encode(content_type, delete::delete(term, definition, decode(content_type, body)?).await?),
    }
}

fn unknown_type(plural: &str) -> ApiError {
    let known: Vec<String> = types::ALL.iter().map(|d| d.plural()).collect();
    ApiError::invalid(format!("there is no type {plural:?}; there are: {}", known.join(", ")))
}

fn decode<T: api::Request>(content_type: ContentType, body: &[u8]) -> Result<T, ApiError> {
    content_type.decode_request(body).map_err(|e| invalid(&e))
}

fn encode<T: Serialize>(content_type: ContentType, result: T) -> Result<Vec<u8>, ApiError> {
    let answer = Answer::from_result(Ok(result));
    content_type.encode(&answer).map_err(|e| ApiError::new(ErrorCode::Internal, e.to_string()))
}

fn invalid(error: &CodecError) -> ApiError {
    ApiError::invalid(error.to_string())
}

/// The KV did not answer: the caller may try again.
fn unavailable(error: &KvError) -> ApiError {
    ApiError::new(ErrorCode::Unavailable, error.to_string())
}

/// Whether a request means `definition`'s own namespace.
fn in_namespace(definition: &TypeDefinition, namespace: &str) -> bool {
    namespace.is_empty() || namespace == definition.namespace
}
