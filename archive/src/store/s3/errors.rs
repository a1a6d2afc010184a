//! What S3 says, turned into what a caller decides upon and a person reads.

use std::error::Error;
use std::fmt::Display;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use backstay_protocol::certificates;

use crate::store::{ErrorKind, StoreError};

/// The longest cause that is passed on, in characters.
const CAUSE_MAX: usize = 400;

/// Why one request failed, after all its retries.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) kind: ErrorKind,
    /// The HTTP status, where there was an answer.
    status: Option<u16>,
    /// S3's own code, such as `NoSuchBucket`, where it said one.
    code: String,
    cause: String,
}

impl Failure {
    pub(super) fn of<E>(error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let status = error.raw_response().map(|answer| answer.status().as_u16());
        // Metadata exists for answers only; a failure without one has none.
        let code = error.code().unwrap_or_default().to_owned();
        let message = error.message().unwrap_or_default();
        let cause = match (code.as_str(), message, status) {
            ("", "", Some(status)) => http_status(status),
            ("", "", None) => root_cause(error),
            ("", message, _) => message.to_owned(),
            (code, "", _) => code.to_owned(),
            (code, message, _) => format!("{code}: {message}"),
        };
        Self { kind: kind(error, status, &code), status, code, cause: one_line(&cause) }
    }

    /// The error that names what was tried on what.
    pub(super) fn at(self, action: &str, target: impl Display) -> StoreError {
        StoreError::new(self.kind, action, target, self.cause)
    }

    /// The same failure, as what a caller should take it for.
    pub(super) fn taken_as(self, kind: ErrorKind) -> Self {
        Self { kind, ..self }
    }

    /// The provider does not know this request or this header.
    pub(super) fn is_not_implemented(&self) -> bool {
        self.status == Some(501) || self.code == "NotImplemented"
    }

    /// Two writers met; S3 asks to try again.
    pub(super) fn is_conflict(&self) -> bool {
        self.status == Some(409)
    }

    pub(super) fn is_code(&self, code: &str) -> bool {
        self.code == code
    }
}

fn kind<E>(error: &SdkError<E, HttpResponse>, status: Option<u16>, code: &str) -> ErrorKind {
    // Some of these come with status 400.
    match code {
        "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired" => return ErrorKind::Denied,
        "RequestTimeout" | "SlowDown" => return ErrorKind::Unavailable,
        "PreconditionFailed" => return ErrorKind::AlreadyExists,
        _ => {}
    }
    match (status, error) {
        (Some(401 | 403), _) => ErrorKind::Denied,
        (Some(404), _) => ErrorKind::NotFound,
        (Some(412), _) => ErrorKind::AlreadyExists,
        (Some(408 | 409 | 429), _) => ErrorKind::Unavailable,
        (Some(501), _) => ErrorKind::Invalid,
        // A 2xx here is an answer that broke off, or that holds something else than S3 would say.
        (Some(200..=299 | 500..), _) => ErrorKind::Unavailable,
        (Some(_), _) => ErrorKind::Invalid,
        (None, SdkError::ConstructionFailure(_)) => ErrorKind::Invalid,
        (None, SdkError::DispatchFailure(failure)) if failure.is_user() => ErrorKind::Invalid,
        (None, _) => ErrorKind::Unavailable,
    }
}

/// HEAD has no body to say more.
fn http_status(status: u16) -> String {
    let reason = match status {
        301 | 307 | 308 => " (the bucket is at another endpoint or in another region)",
        400 => " Bad Request",
        401 => " Unauthorized",
        403 => " Forbidden",
        404 => " Not Found",
        412 => " Precondition Failed",
        500 => " Internal Server Error",
        501 => " Not Implemented",
        502 => " Bad Gateway",
        503 => " Service Unavailable",
        504 => " Gateway Timeout",
        _ => "",
    };
    format!("HTTP {status}{reason}")
}

/// The innermost reason of a failure that never got an answer: what the operating system or TLS said.
fn root_cause(error: &dyn Error) -> String {
    let mut root = error;
    while let Some(source) = root.source() {
        root = source;
    }
    let cause = root.to_string();
    match certificates::advice(&cause) {
        Some(advice) => format!("{cause} ({advice})"),
        None => format!("{cause}{}", advice(&cause)),
    }
}

/// What is probably wrong, and what to do.
fn advice(cause: &str) -> &'static str {
    let says = |word: &str| cause.contains(word);
    if says("InvalidContentType") {
        return " (does this endpoint speak TLS? Without it the endpoint begins with http://)";
    }
    if says("UnknownIssuer") {
        return " (no CA that is trusted signed the endpoint's certificate: name it by `ca`, --s3-ca or AWS_CA_BUNDLE)";
    }
    ""
}

fn one_line(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(CAUSE_MAX).collect();
    text.trim().to_owned()
}
