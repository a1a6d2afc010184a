//! The HTTP server: accepts connections, meddles with requests as the faults say, and hands them to S3.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use s3s::StdError;
use s3s::service::S3Service;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::fault::{Fault, Faults};
use super::op::{Call, Op};
use super::record::Recorder;
use super::storage::{RefuseAfterReading, refusal};
use super::wire::{Breaker, Broken, Meddled, Socket};

type Answer = Response<UnsyncBoxBody<Bytes, StdError>>;

/// What every connection shares.
#[derive(Clone)]
pub(super) struct App {
    pub s3: S3Service,
    pub faults: Arc<Faults>,
    pub recorder: Arc<Recorder>,
}

/// Serves until `stop` holds a time: then accepts nobody, lets requests end for so long, and drops the rest.
pub(super) async fn serve(listener: TcpListener, app: App, mut stop: watch::Receiver<Option<Duration>>) -> Result<()> {
    listener.set_nonblocking(true).context("failed to make the listener non-blocking")?;
    let listener = tokio::net::TcpListener::from_std(listener).context("failed to take over the listener")?;
    let mut connections = JoinSet::new();
    let stopped = stop.clone();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    let _ = stream.set_nodelay(true);
                    connections.spawn(connection(stream, app.clone(), stopped.clone()));
                }
            }
            Some(_) = connections.join_next() => {}
            _ = stop.wait_for(Option::is_some) => break,
        }
    }
    drop(listener);
    let grace = stop.borrow().unwrap_or_default();
    let ended = tokio::time::timeout(grace, async { while connections.join_next().await.is_some() {} }).await;
    if ended.is_err() {
        connections.shutdown().await;
    }
    Ok(())
}

async fn connection(stream: tokio::net::TcpStream, app: App, mut stop: watch::Receiver<Option<Duration>>) {
    let breaker = Breaker::default();
    let socket = TokioIo::new(Socket::new(stream, breaker.clone()));
    let service = service_fn(|request| answer(app.clone(), breaker.clone(), request));
    let mut connection = std::pin::pin!(hyper::server::conn::http1::Builder::new().serve_connection(socket, service));
    let stopped = async {
        // The error is that the stopper is gone: stop then, too.
        let _ = stop.wait_for(Option::is_some).await;
    };
    // How a connection ends is the client's business (and the faults').
    tokio::select! {
        _ = connection.as_mut() => {}
        () = stopped => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

async fn answer(app: App, breaker: Breaker, request: Request<Incoming>) -> Result<Answer, Broken> {
    let call = Call::of(request.method(), request.uri());
    let _in_flight = app.recorder.begin(call.op);
    let fault = app.faults.pick(&call);
    let broken = || {
        breaker.break_it();
        Err(Broken)
    };
    match fault {
        None => {}
        Some(Fault::Reset) => return broken(),
        Some(Fault::Status(status)) if call.op != Op::UploadPart => {
            drain(request.into_body()).await;
            return Ok(refused(status, false));
        }
        Some(Fault::ErrorIn200) => {
            drain(request.into_body()).await;
            return Ok(refused(500, true));
        }
        Some(Fault::Hang) => {
            drain(request.into_body()).await;
            return std::future::pending().await;
        }
        Some(Fault::Hold(ref gate)) => gate.pass().await,
        Some(_) => {}
    }
    let Ok(answer) = app.s3.call(meddle_request(request, fault.as_ref(), &breaker)).await else { return broken() };
    match fault {
        Some(Fault::DoneButSilent) => std::future::pending().await,
        Some(Fault::LoseAnswer) => broken(),
        _ if breaker.is_broken() => Err(Broken),
        _ => Ok(meddle_answer(answer, fault.as_ref(), &breaker)),
    }
}

fn meddle_request(request: Request<Incoming>, fault: Option<&Fault>, breaker: &Breaker) -> s3s::HttpRequest {
    let (mut head, body) = request.into_parts();
    if let Some(Fault::Status(status)) = fault {
        head.extensions.insert(RefuseAfterReading(*status));
    }
    let body = match fault {
        Some(Fault::ResetInBody(after)) => {
            s3s::Body::http_body_unsync(Meddled::new(body, breaker.clone()).cut_after(*after))
        }
        Some(Fault::Slow(rate)) => s3s::Body::http_body_unsync(Meddled::new(body, breaker.clone()).slow(*rate)),
        _ => s3s::Body::from(body),
    };
    Request::from_parts(head, body)
}

fn meddle_answer(answer: s3s::HttpResponse, fault: Option<&Fault>, breaker: &Breaker) -> Answer {
    answer.map(|body| match fault {
        Some(Fault::CutAnswer(after)) => Meddled::new(body, breaker.clone()).cut_after(*after).boxed_unsync(),
        Some(Fault::Slow(rate)) => Meddled::new(body, breaker.clone()).slow(*rate).boxed_unsync(),
        _ => body.boxed_unsync(),
    })
}

/// Reads a request to its end, so that the client gets to see the answer.
async fn drain(mut body: Incoming) {
    while !body.is_end_stream() {
        match body.frame().await {
            Some(Ok(_)) => {}
            _ => return,
        }
    }
}

fn refused(status: u16, in_200: bool) -> Answer {
    let error = refusal(status);
    let message = error.message().unwrap_or_default();
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{}</Code><Message>{message}</Message></Error>",
        error.code().as_str()
    );
    let body = Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync();
    let mut answer = Response::new(body);
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    *answer.status_mut() = if in_200 { StatusCode::OK } else { status };
    answer.headers_mut().insert("content-type", hyper::header::HeaderValue::from_static("application/xml"));
    answer
}
