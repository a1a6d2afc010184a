//! The usual AWS environment: a child process with variables of its own opens the store that they name.

use std::convert::Infallible;
use std::process::Output;

use backstay_archive::store::s3::{S3Settings, S3Store};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::provider::Habits;
use super::server::{ACCESS_KEY, BUCKET, SECRET_KEY, Server};

const CHILD: &str = "environment::child";

/// Runs in a process of its own, with nothing but what the environment says.
#[tokio::test]
#[ignore = "started by the other tests here"]
async fn child() {
    let settings = S3Settings { bucket: BUCKET.into(), ..S3Settings::default() };
    let store = S3Store::new(settings).await.expect("the environment is enough");
    assert_eq!(store.probe().await.expect("the environment is right"), Vec::<String>::new());
}

/// Runs one test of this binary alone, with these variables and no others.
pub async fn run_child(test: &str, variables: &[(&str, &str)]) -> Output {
    let home = tempfile::tempdir().expect("a temporary folder");
    let mut child = tokio::process::Command::new(std::env::current_exe().expect("this test"));
    child.args(["--exact", test, "--ignored", "--nocapture"]);
    child.env_clear().env("HOME", home.path()).envs(variables.iter().copied()).kill_on_drop(true);
    child.output().await.expect("it runs")
}

pub fn passed(output: &Output) {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    assert!(!text.contains(SECRET_KEY));
}

#[tokio::test]
async fn keys_and_endpoint_come_from_variables() {
    let server = Server::start(Habits::default()).await;
    let keys = [("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)];
    for name in ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"] {
        passed(&run_child(CHILD, &[keys[0], keys[1], (name, &server.endpoint)]).await);
    }
    // The one for S3 goes before the one for everything.
    let wrong = ("AWS_ENDPOINT_URL", "http://127.0.0.1:1");
    passed(&run_child(CHILD, &[keys[0], keys[1], wrong, ("AWS_ENDPOINT_URL_S3", &server.endpoint)]).await);
}

#[tokio::test]
async fn the_role_of_an_instance_is_used_by_imdsv2_alone() {
    let server = Server::start(Habits::default()).await;
    let (metadata, _tasks) = instance_metadata().await;
    let variables = [("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.as_str()), ("AWS_ENDPOINT_URL", &server.endpoint)];
    passed(&run_child(CHILD, &variables).await);
}

/// An instance's metadata service that answers nobody without a session token.
async fn instance_metadata() -> (String, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.expect("the listener stays open");
            let answer = service_fn(|request| async move { Ok::<_, Infallible>(metadata(&request)) });
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
            connections.spawn(async move { connection.await.unwrap_or_default() });
        }
    });
    (url, tasks)
}

fn metadata(request: &Request<Incoming>) -> Response<Full<Bytes>> {
    const TTL: &str = "x-aws-ec2-metadata-token-ttl-seconds";
    let with_token = request.headers().get("x-aws-ec2-metadata-token").is_some_and(|token| token == "session");
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::PUT, "/latest/api/token") if request.headers().contains_key(TTL) => {
            (StatusCode::OK, "session".into())
        }
        _ if !with_token => (StatusCode::UNAUTHORIZED, String::new()),
        (_, "/latest/meta-data/iam/security-credentials/") => (StatusCode::OK, "backup-role".into()),
        (_, "/latest/meta-data/iam/security-credentials/backup-role") => (StatusCode::OK, role()),
        _ => (StatusCode::NOT_FOUND, String::new()),
    };
    let answer = Response::builder().status(status).header(TTL, "21600");
    answer.body(Full::new(body.into())).expect("a good answer")
}

fn role() -> String {
    format!(
        r#"{{"Code":"Success","Type":"AWS-HMAC","LastUpdated":"2026-01-01T00:00:00Z","AccessKeyId":"{ACCESS_KEY}",
            "SecretAccessKey":"{SECRET_KEY}","Token":"of-this-session","Expiration":"2099-01-01T00:00:00Z"}}"#
    )
}
