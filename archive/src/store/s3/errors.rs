//! Turns S3's answers into the kinds of errors on which callers decide, and into texts for people.

use std::error::Error;
use std::fmt::Display;
use std::io;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use backstay_protocol::certificates;

use super::advice;
use super::login::innermost;
use super::text::one_line;
use crate::store::{ErrorKind, StoreError};

/// Why one request failed, after all its retries.
#[derive(Debug)]
pub(super) struct RequestFailure {
    pub(super) kind: ErrorKind,
    /// The HTTP status, if there was an answer.
    status: Option<u16>,
    /// S3's own code, such as `NoSuchBucket`, if there was one.
    code: String,
    cause: String,
    /// Nobody answers; trying again soon would not help someone who waits.
    unreachable: bool,
}

impl RequestFailure {
    pub(super) fn of<E>(error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let status = error.raw_response().map(|answer| answer.status().as_u16());
        // Only answers have metadata; a failure without an answer has none.
        let code = error.code().unwrap_or_default().to_owned();
        let message = error.message().unwrap_or_default();
        let web_page = error.raw_response().is_some_and(advice::is_web_page);
        let cause = match (code.as_str(), message, status) {
            (_, _, Some(status)) if web_page => advice::web_page(status),
            ("", "", Some(status)) => http_status(status),
            ("", "", None) => root_cause(error),
            ("", message, _) => message.to_owned(),
            (code, "", _) => code.to_owned(),
            (code, message, _) => format!("{code}: {message}"),
        };
        let elsewhere = error.raw_response().and_then(|answer| advice::elsewhere(answer, &code)).unwrap_or_default();
        let kind = match kind(error, status, &code) {
            // What is not S3 will not become S3 when it is asked again, unless it reports a temporary failure.
            _ if web_page && !matches!(status, Some(408 | 429 | 500..)) => ErrorKind::Invalid,
            kind => kind,
        };
        let cause = format!("{}{elsewhere}", one_line(&cause));
        Self { kind, status, code, cause, unreachable: status.is_none() && is_unreachable(error) }
    }

    /// Whether nobody answers at this address at all.
    pub(super) fn is_unreachable(&self) -> bool {
        self.unreachable
    }

    /// Whether the body did not arrive as it was sent. Another try may succeed.
    pub(super) fn is_garbled(&self) -> bool {
        matches!(self.code.as_str(), "BadDigest" | "InvalidDigest" | "XAmzContentChecksumMismatch")
    }

    /// Whether the provider requires a checksum with each body, and there was none, or another one.
    pub(super) fn demands_checksum(&self) -> bool {
        let says = |word: &str| self.cause.to_ascii_lowercase().contains(word);
        match self.code.as_str() {
            "MissingContentMD5" | "MissingContentMd5" => true,
            _ if self.is_garbled() => false,
            _ => self.status == Some(400) && (says("content-md5") || says("x-amz-checksum") || says("checksum header")),
        }
    }

    /// Whether this provider may look for the bucket's name elsewhere in the request.
    pub(super) fn may_be_addressing(&self) -> bool {
        !matches!(self.kind, ErrorKind::Login) && matches!(self.status, Some(300..=499))
    }

    /// Whether the answer has one of S3's codes: then it is S3 that answered.
    pub(super) fn is_said_by_s3(&self) -> bool {
        !self.code.is_empty()
    }

    /// The error, with what was tried and on what.
    pub(super) fn at(self, action: &str, target: impl Display) -> StoreError {
        StoreError::new(self.kind, action, target, self.cause)
    }

    /// The same failure as another kind, for the caller.
    pub(super) fn taken_as(self, kind: ErrorKind) -> Self {
        Self { kind, ..self }
    }

    /// Whether the provider does not know this request or header.
    pub(super) fn is_not_implemented(&self) -> bool {
        self.status == Some(501) || self.code == "NotImplemented"
    }

    /// Whether two writers met; S3 asks to try again.
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
        "ExpiredToken"
        | "InvalidToken"
        | "TokenRefreshRequired"
        | "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "RequestTimeTooSkewed" => return ErrorKind::Login,
        "RequestTimeout" | "SlowDown" | "BadDigest" | "XAmzContentChecksumMismatch" => return ErrorKind::Unavailable,
        "PreconditionFailed" => return ErrorKind::AlreadyExists,
        _ => {}
    }
    match (status, error) {
        (Some(401), _) => ErrorKind::Login,
        (Some(403), _) => ErrorKind::Denied,
        (Some(404), _) => ErrorKind::NotFound,
        (Some(412), _) => ErrorKind::AlreadyExists,
        (Some(408 | 409 | 429), _) => ErrorKind::Unavailable,
        (Some(501), _) => ErrorKind::Invalid,
        // A 2xx here is an answer that broke off, or that is not what S3 would answer.
        (Some(200..=299 | 500..), _) => ErrorKind::Unavailable,
        (Some(_), _) => ErrorKind::Invalid,
        (None, SdkError::ConstructionFailure(_)) => ErrorKind::Invalid,
        (None, SdkError::DispatchFailure(failure)) if failure.is_user() => ErrorKind::Invalid,
        (None, _) => ErrorKind::Unavailable,
    }
}

/// HEAD has no body with more information.
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

/// The innermost cause of a failure without an answer: the error of the operating system or of TLS.
fn root_cause(error: &dyn Error) -> String {
    let cause = innermost(error);
    match certificates::advice(&cause) {
        Some(advice) => format!("{cause} ({advice})"),
        None => format!("{cause}{}", advice::of_cause(&cause)),
    }
}

/// Whether the connection was refused, or the host's name is unknown.
fn is_unreachable(error: &dyn Error) -> bool {
    let refused = |error: &io::Error| {
        use io::ErrorKind as Io;
        matches!(error.kind(), Io::ConnectionRefused | Io::HostUnreachable | Io::NetworkUnreachable)
    };
    let mut next = error.source();
    while let Some(error) = next {
        if error.downcast_ref().is_some_and(refused) || error.to_string().contains("failed to lookup address") {
            return true;
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::error::ErrorMetadata;
    use aws_sdk_s3::operation::head_object::HeadObjectError;
    use aws_sdk_s3::primitives::SdkBody;

    use super::*;

    fn failure(status: u16, code: &str, message: &str, body: &'static str) -> RequestFailure {
        let mut answer = HttpResponse::new(status.try_into().expect("a status"), SdkBody::from(body));
        answer.headers_mut().insert("content-type", "text/html");
        let said = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let mut about = ErrorMetadata::builder();
        if let Some(code) = said(code) {
            about = about.code(code);
        }
        if let Some(message) = said(message) {
            about = about.message(message);
        }
        RequestFailure::of(&SdkError::service_error(HeadObjectError::generic(about.build()), answer))
    }

    #[test]
    fn a_header_alone_makes_no_web_page_and_an_ill_gateway_is_asked_again() {
        let page = "<html></html>";
        for (status, body, kind) in [
            (404, "", ErrorKind::NotFound),
            (403, "", ErrorKind::Denied),
            (429, "", ErrorKind::Unavailable),
            (404, page, ErrorKind::Invalid),
            (403, page, ErrorKind::Invalid),
            (408, page, ErrorKind::Unavailable),
            (429, page, ErrorKind::Unavailable),
            (503, page, ErrorKind::Unavailable),
        ] {
            assert_eq!(failure(status, "", "", body).kind, kind, "{status} {body}");
        }
    }

    #[test]
    fn a_body_that_did_not_arrive_whole_is_no_demand_for_a_checksum() {
        for (code, message, demands, garbled) in [
            ("BadDigest", "The Content-MD5 you specified did not match what we received", false, true),
            ("InvalidDigest", "The Content-MD5 you specified is not valid", false, true),
            ("XAmzContentChecksumMismatch", "The provided 'x-amz-checksum' header does not match", false, true),
            ("MissingContentMD5", "", true, false),
            ("InvalidRequest", "Content-MD5 OR x-amz-checksum- HTTP header is required", true, false),
            ("InvalidArgument", "no", false, false),
        ] {
            let failure = failure(400, code, message, "");
            assert_eq!((failure.demands_checksum(), failure.is_garbled()), (demands, garbled), "{code}");
        }
    }
}
