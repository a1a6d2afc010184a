//! The API as a NATS service: its endpoints are the verbs, and every request is handled in a task of its own.

use std::sync::Arc;

use async_nats::service::endpoint::Endpoint;
use async_nats::service::{NATS_SERVICE_ERROR, NATS_SERVICE_ERROR_CODE, Request, ServiceExt};
use async_nats::{Client, HeaderMap, Message, Subscriber};
use backstay_protocol::api::{Answer, ApiError, ErrorCode};
use backstay_protocol::codec::{CONTENT_TYPE, CodecError, ContentType};
use backstay_protocol::subject::{self, Verb};
use futures::StreamExt;
use tracing::{debug, warn};

use super::shared::invalid;
use crate::kv::KvError;
use crate::term::Term;

/// The name under which the service is found.
pub const SERVICE: &str = "backstay";
/// How many requests are handled at the same time.
const AT_ONCE: usize = 64;
/// How many characters of an error are in the header; the body has all of it.
const HEADER_CHARS: usize = 1000;

/// Offers the service until the coordinator no longer leads.
///
/// # Errors
/// NATS does not accept the subscriptions.
pub async fn start(term: &Arc<Term>, client: &Client) -> Result<(), KvError> {
    let failed = |cause: String| KvError::Failed { action: "cannot start the service", key: SERVICE.into(), cause };
    let service = client
        .service_builder()
        .description("Backstay: verified backups of etcd")
        // A group of its own: NATS would give requests to a predecessor that hangs with its connection open.
        .queue_group(term.epoch)
        .start(SERVICE, env!("CARGO_PKG_VERSION"))
        .await
        .map_err(|e| failed(e.to_string()))?;
    let mut endpoints = Vec::new();
    for verb in Verb::ALL {
        let endpoint = service.endpoint_builder().name(verb.as_str()).add(subject::api_requests(*verb)).await;
        endpoints.push(endpoint.map_err(|e| failed(e.to_string()))?);
    }
    // Not in the endpoints' group: NATS would give each request to one of them or to this.
    let all = client.subscribe(subject::API_REQUESTS).await.map_err(|e| failed(e.to_string()))?;
    term.spawn_to_the_end(refuse(term.clone(), client.clone(), all));
    for endpoint in endpoints {
        term.spawn_to_the_end(serve(term.clone(), endpoint));
    }
    let cancel = term.cancel.clone();
    term.spawn_to_the_end(async move {
        cancel.cancelled().await;
        if let Err(error) = service.stop().await {
            debug!(%error, "the service did not stop cleanly");
        }
    });
    Ok(())
}

/// Answers until the coordinator no longer leads; requests that are being handled then are answered as interrupted.
async fn serve(term: Arc<Term>, endpoint: Endpoint) {
    let requests = endpoint.take_until(term.cancel.cancelled());
    requests.for_each_concurrent(AT_ONCE, |request| answer(&term, request)).await;
}

async fn answer(term: &Arc<Term>, request: Request) {
    let (content_type, reply) = match content_type(&request.message) {
        Ok(content_type) => {
            let handled = super::answer(term, content_type, &request.message.subject, &request.message.payload);
            let handled = term.cancel.run_until_cancelled(handled).await;
            (content_type, handled.unwrap_or_else(|| Err(interrupted())))
        }
        Err(error) => (ContentType::Json, Err(invalid(error))),
    };
    log_failure(term, &request.message.subject, &reply);
    let (headers, body) = fitting(content_type, reply, &request.message.subject, term.bus.max_payload());
    if let Err(error) = request.respond_with_headers(Ok(body.into()), headers).await {
        warn!(subject = %request.message.subject, %error, "could not send an answer");
    }
}

/// Logs a request that failed because of the KV, the store or NATS. Repeated ones are logged rarely, since `--watch`
/// sends one every second.
fn log_failure(term: &Term, subject: &str, reply: &Result<Vec<u8>, ApiError>) {
    match reply {
        Err(error) if matches!(error.code, ErrorCode::Unavailable | ErrorCode::Internal) => {
            if let Some(told) = term.told.note(subject, &error.text) {
                warn!(subject, %error, lasting = told.lasting, "a request failed");
            }
        }
        _ => term.told.over(subject),
    }
}

/// An answer that is too large for NATS is replaced by an error, since the caller would wait in vain.
fn fitting(
    content_type: ContentType,
    reply: Result<Vec<u8>, ApiError>,
    subject: &str,
    max_payload: usize,
) -> (HeaderMap, Vec<u8>) {
    let done = reply.is_ok();
    let (headers, body) = written(content_type, reply);
    let bytes = body.len() + headers_length(&headers);
    if bytes <= max_payload {
        return (headers, body);
    }
    warn!(subject, bytes, max_payload, "an answer is larger than NATS allows");
    let done = if done { "The request was carried out. " } else { "The request failed. " };
    let text = format!(
        "the answer is too large: {bytes} bytes, and NATS accepts at most {max_payload}. {done}Raise max_payload in \
         nats-server's configuration (1MB by default)"
    );
    written(content_type, Err(ApiError::new(ErrorCode::Internal, text)))
}

/// Their bytes in a message: `NATS/1.0`, each header in a line of its own, and an empty line.
fn headers_length(headers: &HeaderMap) -> usize {
    let line = |name: &str, value: &str| name.len() + value.len() + 4;
    let lines = headers.iter().flat_map(|(name, values)| values.iter().map(move |value| (name, value)));
    lines.map(|(name, value)| line(name.as_ref(), value.as_str())).sum::<usize>() + 12
}

/// The encoding that a request names. Clients spell the header in any case.
fn content_type(message: &Message) -> Result<ContentType, CodecError> {
    let headers = message.headers.iter().flat_map(|headers| headers.iter());
    let mut named = headers.filter(|(name, _)| name.to_string().eq_ignore_ascii_case(CONTENT_TYPE));
    ContentType::from_header(named.find_map(|(_, values)| values.first()).map(|value| value.as_str()))
}

/// An answer as it is sent: an error is in the headers, too.
fn written(content_type: ContentType, reply: Result<Vec<u8>, ApiError>) -> (HeaderMap, Vec<u8>) {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, content_type.as_str());
    let body = match reply {
        Ok(body) => body,
        Err(error) => {
            let shown: String = error.text.replace(['\r', '\n'], " ").chars().take(HEADER_CHARS).collect();
            headers.insert(NATS_SERVICE_ERROR, shown.as_str());
            headers.insert(NATS_SERVICE_ERROR_CODE, error.code.number().to_string().as_str());
            let answer: Answer<()> = Answer::from_result(Err(error));
            content_type.encode(&answer).unwrap_or_default()
        }
    };
    (headers, body)
}

/// Refuses requests with a verb that does not exist. NATS itself would answer "no responders", but not to a caller in
/// another account.
async fn refuse(term: Arc<Term>, client: Client, requests: Subscriber) {
    let requests = requests.take_until(term.cancel.cancelled());
    requests.for_each_concurrent(AT_ONCE, |message| refuse_one(&client, message)).await;
}

async fn refuse_one(client: &Client, message: Message) {
    let Err(error) = subject::verb_of_api(&message.subject) else { return };
    let Some(caller) = message.reply.clone() else { return };
    let (headers, body) =
        written(content_type(&message).unwrap_or_default(), Err(ApiError::invalid(error.to_string())));
    if let Err(error) = client.publish_with_headers(caller, headers, body.into()).await {
        debug!(%error, "a caller left before the answer was sent");
    }
}

/// A caller without an answer would wait until it times out.
fn interrupted() -> ApiError {
    let text = "the coordinator is stopping or has lost its lease: check the current state and try again";
    ApiError::new(ErrorCode::Unavailable, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(answer: &[u8]) -> ApiError {
        let answer: Answer<()> = serde_json::from_slice(answer).expect("an answer");
        answer.into_result().expect_err("an error")
    }

    #[test]
    fn an_answer_that_cannot_be_sent_becomes_an_error_that_can() {
        let room = 4096;
        let (headers, body) = fitting(ContentType::Json, Ok(vec![b'x'; 3000]), "s", room);
        assert_eq!((body.len(), headers.get(NATS_SERVICE_ERROR)), (3000, None));
        let none = (ContentType::Json, Ok(vec![b'x'; room]));
        for (content_type, reply, says) in [
            (none.0, none.1, "The request was carried out"),
            (ContentType::Json, Err(ApiError::invalid("é".repeat(room))), "The request failed"),
        ] {
            let (headers, body) = fitting(content_type, reply, "s", room);
            assert!(body.len() + headers_length(&headers) <= room);
            let error = error(&body);
            assert!(error.code == ErrorCode::Internal && error.text.contains(says), "{error}");
            assert!(error.text.contains("accepts at most 4096") && error.text.contains("max_payload"), "{error}");
            assert!(headers.get(NATS_SERVICE_ERROR).is_some());
        }
    }

    #[test]
    fn headers_count_as_they_stand_on_the_wire() {
        let mut headers = HeaderMap::new();
        headers.insert("A", "bc");
        headers.append("A", "d");
        assert_eq!(headers_length(&headers), "NATS/1.0\r\nA: bc\r\nA: d\r\n\r\n".len());
    }
}
