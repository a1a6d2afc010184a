//! Requests and answers of `backstay.v1.api.<verb>.<type>`: what programs and `backstayctl` send.

use serde::{Deserialize, Serialize};

use crate::resource::Resource;

/// `get`: one resource by id, or all of the type.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct GetRequest {
    /// Empty: all.
    pub id: String,
    /// Empty: the type's own.
    pub namespace: String,
    /// A label selector (see [`crate::selector`]); empty selects all.
    pub selector: String,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct GetResponse {
    pub items: Vec<Resource>,
}

/// `apply`: create the resource or make it what is given.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ApplyRequest {
    pub resource: Resource,
    /// Check everything and answer what would become of it, but change nothing.
    pub dry_run: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    Created,
    Updated,
    #[default]
    Unchanged,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ApplyResponse {
    pub action: Action,
    /// What was there before; absent where nothing was.
    pub before: Option<Resource>,
    pub resource: Resource,
    /// What the operator should know although it worked.
    pub notes: Vec<String>,
}

/// `delete`: remove one resource.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DeleteRequest {
    pub id: String,
    pub namespace: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DeleteResponse {}

/// What kind of error an answer holds. The number stands in the `Nats-Service-Error-Code` header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    InvalidArgument,
    NotFound,
    Conflict,
    ReadOnly,
    Unavailable,
    #[default]
    Internal,
}

impl ErrorCode {
    /// In the manner of HTTP.
    pub fn number(self) -> usize {
        match self {
            Self::InvalidArgument => 400,
            Self::ReadOnly => 403,
            Self::NotFound => 404,
            Self::Conflict => 409,
            Self::Internal => 500,
            Self::Unavailable => 503,
        }
    }
}

/// Why a request was not done.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, thiserror::Error)]
#[error("{text}")]
pub struct ApiError {
    #[serde(default)]
    pub code: ErrorCode,
    #[serde(default)]
    pub text: String,
}

impl ApiError {
    pub fn new(code: ErrorCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    pub fn invalid(text: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidArgument, text)
    }

    pub fn not_found(address: &str) -> Self {
        Self::new(ErrorCode::NotFound, format!("resource {address} doesn't exist"))
    }
}

/// An answer: `result`, or `error`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Answer<T> {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ApiError>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<T>,
}

impl<T> Answer<T> {
    pub fn from_result(result: Result<T, ApiError>) -> Self {
        match result {
            Ok(result) => Self { error: None, result: Some(result) },
            Err(error) => Self { error: Some(error), result: None },
        }
    }

    pub fn into_result(self) -> Result<T, ApiError> {
        match (self.error, self.result) {
            (Some(error), _) => Err(error),
            (None, Some(result)) => Ok(result),
            (None, None) => Err(ApiError::new(ErrorCode::Internal, "the answer holds neither a result nor an error")),
        }
    }
}
