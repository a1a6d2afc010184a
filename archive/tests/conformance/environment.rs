//! The usual AWS environment: a child process with its own variables opens the store that they name.

use std::convert::Infallible;
use std::process::Output;
use std::sync::{Arc, Mutex};

use backstay_archive::Store;
use backstay_archive::store::PART_BYTES;
use backstay_archive::store::s3::{S3Settings, S3Store};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::provider::Habits;
use super::server::{ACCESS_KEY, BUCKET, DOMAIN, LATER_ACCESS_KEY, LATER_SECRET_KEY, SECRET_KEY, Server, Signed};
use super::tls::Certificate;

const CHILD: &str = "environment::child";
/// The child's CA file, which an agent has from its settings.
const CHILD_CA: &str = "CA_OF_THE_CHILD";
/// The machine's CA file, for everything that uses AWS.
const MACHINE_CA: &str = "AWS_CA_BUNDLE";

/// Runs in a process of its own, with only the variables of the environment under test.
#[tokio::test]
#[ignore = "started by the other tests here"]
async fn child() {
    let ca_file = std::env::var_os(CHILD_CA).map(Into::into);
    let settings = S3Settings { bucket: BUCKET.into(), ca_file, ..S3Settings::default() };
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

/// Checks that there were requests, and that each was signed with the first key, for this region and session.
fn signed_all(server: &Server, region: &str, token: Option<&str>) {
    let seen = server.seen.lock().expect("unpoisoned");
    let expected =
        Signed { access_key: ACCESS_KEY.into(), region: region.into(), session_token: token.map(str::to_owned) };
    assert!(!seen.is_empty());
    for signed in &*seen {
        assert_eq!(*signed, expected);
    }
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
    // The variable for S3 takes precedence over the general one.
    let wrong = ("AWS_ENDPOINT_URL", "http://127.0.0.1:1");
    passed(&run_child(CHILD, &[keys[0], keys[1], wrong, ("AWS_ENDPOINT_URL_S3", &server.endpoint)]).await);
    signed_all(&server, "us-east-1", None);
    let token = [("AWS_SESSION_TOKEN", "of-this-session"), ("AWS_ENDPOINT_URL", &*server.endpoint)];
    server.seen.lock().expect("unpoisoned").clear();
    passed(&run_child(CHILD, &[keys[0], keys[1], token[0], token[1], ("AWS_REGION", "eu-north-1")]).await);
    signed_all(&server, "eu-north-1", Some("of-this-session"));
}

#[tokio::test]
async fn a_session_token_of_the_settings_goes_with_each_request() {
    let server = Server::start(Habits::default()).await;
    let mut settings = S3Settings { region: "eu-west-2".into(), ..server.settings() };
    settings.credentials.as_mut().expect("given").session_token = Some("of-this-session".into());
    server.store_with(settings, |_| {}).await.probe().await.expect("it may");
    signed_all(&server, "eu-west-2", Some("of-this-session"));
}

#[tokio::test]
async fn the_role_of_an_instance_is_used_by_imdsv2_alone() {
    let server = Server::start(Habits::default()).await;
    let (metadata, _tasks) = instance_metadata().await;
    let variables = [("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.as_str()), ("AWS_ENDPOINT_URL", &server.endpoint)];
    passed(&run_child(CHILD, &variables).await);
    signed_all(&server, "us-east-1", Some("of-this-session"));
}

#[tokio::test]
async fn a_token_of_the_platform_is_exchanged_for_credentials() {
    let server = Server::start(Habits::default()).await;
    let (sts, _tasks) = listen(token_service).await;
    let token = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(token.path(), "token-of-the-platform").expect("written");
    let variables = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.path().to_str().expect("text")),
        ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/backup"),
        ("AWS_REGION", "eu-west-3"),
        ("AWS_ENDPOINT_URL_STS", sts.as_str()),
        ("AWS_ENDPOINT_URL_S3", &server.endpoint),
    ];
    passed(&run_child(CHILD, &variables).await);
    signed_all(&server, "eu-west-3", Some("of-this-session"));
}

/// An STS server, for one token.
async fn token_service(request: Request<Incoming>) -> Response<Full<Bytes>> {
    let body = request.into_body().collect().await.expect("the body").to_bytes();
    let body = String::from_utf8_lossy(&body);
    let asked = body.contains("Action=AssumeRoleWithWebIdentity") && body.contains("token-of-the-platform");
    let (status, text) = match asked {
        true => (StatusCode::OK, assumed()),
        false => (StatusCode::FORBIDDEN, String::new()),
    };
    Response::builder().status(status).body(Full::new(text.into())).expect("a good answer")
}

fn assumed() -> String {
    format!(
        "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
         <AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>{ACCESS_KEY}</AccessKeyId>\
         <SecretAccessKey>{SECRET_KEY}</SecretAccessKey><SessionToken>of-this-session</SessionToken>\
         <Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleWithWebIdentityResult>\
         <ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></AssumeRoleWithWebIdentityResponse>"
    )
}

#[tokio::test]
async fn profiles_give_keys_region_and_endpoint() {
    let server = Server::start(Habits::default()).await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: String| {
        std::fs::write(folder.path().join(name), text).expect("written");
        folder.path().join(name).to_str().expect("text").to_owned()
    };
    let keys = format!("[backups]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n");
    let credentials = file("credentials", keys);
    let config = format!("[profile backups]\nregion = eu-west-1\nendpoint_url = {}\n", server.endpoint);
    let config = file("config", config);
    let variables = [("AWS_SHARED_CREDENTIALS_FILE", &*credentials), ("AWS_CONFIG_FILE", &config)];
    passed(&run_child(CHILD, &[variables[0], variables[1], ("AWS_PROFILE", "backups")]).await);
    signed_all(&server, "eu-west-1", None);
}

#[tokio::test]
async fn the_proxy_of_the_environment_is_used() {
    // A server that is asked as a proxy answers by itself: no host has this name.
    let server = Server::start(Habits::default()).await;
    let keys = [("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)];
    let nobody = ("AWS_ENDPOINT_URL", "http://storage.invalid:9000");
    passed(&run_child(CHILD, &[keys[0], keys[1], nobody, ("HTTP_PROXY", &server.endpoint)]).await);
    let exempt = [keys[0], keys[1], nobody, ("HTTP_PROXY", &server.endpoint), ("NO_PROXY", "storage.invalid")];
    assert!(!run_child(CHILD, &exempt).await.status.success(), "nobody answers there without the proxy");
}

/// Opens the store, probes it and prints what is in use.
#[tokio::test]
#[ignore = "started by the test below"]
async fn child_tells_what_is_in_use() {
    let store = S3Store::new(S3Settings { bucket: BUCKET.into(), ..S3Settings::default() }).await.expect("enough");
    assert_eq!(store.probe().await.expect("the other way works"), Vec::<String>::new());
    println!("in use: {}", store.told().join(", "));
}

#[tokio::test]
async fn a_provider_without_path_style_is_found_out() {
    let server = Server::start(Habits { wants_virtual: true, ..Habits::default() }).await;
    let keys = [("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)];
    // No host has the bucket's name in front of this host's: the server answers as a proxy.
    let endpoint = format!("http://{DOMAIN}");
    let variables = [keys[0], keys[1], ("AWS_ENDPOINT_URL", &*endpoint), ("HTTP_PROXY", &server.endpoint)];
    let output = run_child("environment::child_tells_what_is_in_use", &variables).await;
    passed(&output);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.contains("in use: addressing virtual (auto), checksum none (auto)"), "{told}");
}

#[tokio::test]
async fn variables_that_are_set_and_empty_say_nothing() {
    let server = Server::start(Habits::default()).await;
    let keys = [("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)];
    let good = ("AWS_ENDPOINT_URL", &*server.endpoint);
    for empty in ["", " "] {
        passed(&run_child(CHILD, &[keys[0], keys[1], good, ("AWS_ENDPOINT_URL_S3", empty)]).await);
    }
    // Both are empty: Amazon's own endpoint, which nobody contacts here, and not an address without a host.
    let none = [keys[0], keys[1], ("AWS_ENDPOINT_URL", ""), ("HTTPS_PROXY", "http://127.0.0.1:1")];
    let output = run_child(CHILD, &none).await;
    let text = String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned();
    assert!(!output.status.success() && text.contains("Connection refused"), "{text}");
}

#[tokio::test]
async fn no_credentials_at_all_is_said_as_that() {
    let server = Server::start(Habits::default()).await;
    let endpoint = [("AWS_ENDPOINT_URL", &*server.endpoint), ("AWS_EC2_METADATA_DISABLED", "true")];
    for half in [None, Some(("AWS_ACCESS_KEY_ID", ACCESS_KEY))] {
        let variables: Vec<_> = endpoint.into_iter().chain(half).collect();
        let output = run_child(CHILD, &variables).await;
        let text = String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned();
        let said = "no S3 credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE";
        assert!(!output.status.success() && text.contains(said) && !text.contains("Attempted"), "{text}");
    }
}

#[tokio::test]
async fn keys_and_regions_of_the_environment_that_no_request_can_carry_are_told() {
    let server = Server::start(Habits::default()).await;
    let good = [
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
        ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
        ("AWS_SESSION_TOKEN", "t"),
        ("AWS_REGION", "eu-west-1"),
        ("AWS_ENDPOINT_URL", &*server.endpoint),
    ];
    let bad = [
        (0, "AKIATEST\nx", "the access key ID contains a line break"),
        (0, "AKIA TEST", "the access key ID contains a space"),
        (1, "not-to-be-printed\n", "the secret access key contains a line break"),
        (2, "t\r\nt", "the session token contains a line break"),
        (3, "eu-west-1\nx", "the region contains a line break"),
        (3, "eu west", "the region contains a space"),
    ];
    for (at, value, says) in bad {
        let mut variables = good;
        variables[at].1 = value;
        let output = run_child(CHILD, &variables).await;
        let text = String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned();
        assert!(!output.status.success() && text.contains(says), "{value:?}: {text}");
        assert!(!text.contains(SECRET_KEY), "{text}");
    }
}

#[tokio::test]
async fn tls_goes_through_the_proxy_of_the_environment() {
    let certificate = Certificate::new();
    let server = Server::start_with_tls(Habits::default(), certificate.acceptor()).await;
    let proxy = TunnelProxy::start(server.endpoint.trim_start_matches("https://").to_owned()).await;
    let ca = certificate.file();
    let keys = [("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)];
    let ca = (CHILD_CA, ca.path().to_str().expect("text"));
    // No host has this name: only the proxy can reach it.
    let endpoint = ("AWS_ENDPOINT_URL", "https://storage.invalid:9443");
    let with_user = proxy.url("backstay:let-me-out@");
    passed(&run_child(CHILD, &[keys[0], keys[1], ca, endpoint, ("HTTPS_PROXY", &with_user)]).await);
    passed(&run_child(CHILD, &[keys[0], keys[1], (MACHINE_CA, ca.1), endpoint, ("HTTPS_PROXY", &with_user)]).await);
    let none = [keys[0], keys[1], (MACHINE_CA, ""), endpoint, ("HTTPS_PROXY", &with_user)];
    assert!(!run_child(CHILD, &none).await.status.success(), "nobody vouches for the server");
    let heads = proxy.heads.lock().expect("unpoisoned").clone();
    assert!(!heads.is_empty());
    for head in heads {
        assert!(head.starts_with("CONNECT storage.invalid:9443 HTTP/1.1"), "{head}");
        assert!(!head.contains(ACCESS_KEY), "what is in the tunnel is the store's alone: {head}");
    }
    // Without credentials, the proxy refuses.
    let without = proxy.url("");
    assert!(!run_child(CHILD, &[keys[0], keys[1], ca, endpoint, ("HTTPS_PROXY", &without)]).await.status.success());
}

/// A proxy that opens tunnels to one server, for one user.
struct TunnelProxy {
    address: std::net::SocketAddr,
    /// The requests that it got, from the first line to the empty one.
    heads: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl TunnelProxy {
    /// `backstay:let-me-out`.
    const USER: &str = "Basic YmFja3N0YXk6bGV0LW1lLW91dA==";

    async fn start(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let (mut tasks, seen) = (JoinSet::new(), heads.clone());
        tasks.spawn(async move {
            let mut tunnels = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                tunnels.spawn(Self::tunnel(client, server.clone(), seen.clone()));
            }
        });
        Self { address, heads, _tasks: tasks }
    }

    fn url(&self, user: &str) -> String {
        format!("http://{user}{}", self.address)
    }

    async fn tunnel(client: TcpStream, server: String, heads: Arc<Mutex<Vec<String>>>) -> std::io::Result<()> {
        let mut client = BufReader::new(client);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") && client.read_line(&mut head).await? > 0 {}
        let known = head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .any(|(name, value)| name.eq_ignore_ascii_case("proxy-authorization") && value == Self::USER);
        heads.lock().expect("unpoisoned").push(head);
        if !known {
            return client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n").await;
        }
        let mut server = TcpStream::connect(server).await?;
        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
        tokio::io::copy_bidirectional(&mut client, &mut server).await.map(drop)
    }
}

/// Uploads two parts; between them, the credentials in the environment change.
#[tokio::test]
#[ignore = "started by the test below"]
async fn child_between_two_parts() {
    let settings = S3Settings { bucket: BUCKET.into(), ..S3Settings::default() };
    let store = S3Store::new(settings).await.expect("the environment is enough");
    let key = backstay_archive::Key::new("a/x").expect("a key");
    let owner = backstay_protocol::AttemptId(uuid::Uuid::from_u128(1));
    let upload = store.begin(&key, owner).await.expect("begun");
    upload.part(1, vec![1; PART_BYTES].into()).await.expect("the first part");
    let home = std::path::PathBuf::from(std::env::var_os("HOME").expect("set"));
    std::fs::rename(home.join("later.json"), home.join("keys.json")).expect("the credentials change");
    upload.part(2, vec![2; 10].into()).await.expect("the second part");
    upload.complete(2).await.expect("complete");
}

#[tokio::test]
async fn credentials_may_change_between_two_parts() {
    let server = Server::start(Habits::default()).await;
    let home = tempfile::tempdir().expect("a folder");
    // Expired already: whoever respects that asks again before each request.
    let keys = |id: &str, secret: &str| {
        format!(
            r#"{{"Version":1,"AccessKeyId":"{id}","SecretAccessKey":"{secret}","Expiration":"2020-01-01T00:00:00Z"}}"#
        )
    };
    let write = |name: &str, text: String| std::fs::write(home.path().join(name), text).expect("written");
    write("keys.json", keys(ACCESS_KEY, SECRET_KEY));
    write("later.json", keys(LATER_ACCESS_KEY, LATER_SECRET_KEY));
    let file = home.path().join("keys.json");
    write("config", format!("[default]\ncredential_process = cat {}\n", file.display()));
    let (folder, config) = (home.path().to_str().expect("text"), home.path().join("config"));
    let config = config.to_str().expect("text");
    let variables = [("HOME", folder), ("AWS_CONFIG_FILE", config), ("AWS_ENDPOINT_URL", &server.endpoint)];
    passed(&run_child("environment::child_between_two_parts", &variables).await);
    let seen: Vec<_> = server.seen.lock().expect("unpoisoned").iter().map(|s| s.access_key.clone()).collect();
    assert_eq!(seen.first().map(String::as_str), Some(ACCESS_KEY));
    assert_eq!(seen.last().map(String::as_str), Some(LATER_ACCESS_KEY), "{seen:?}");
}

/// An instance's metadata service that answers only with a session token.
async fn instance_metadata() -> (String, JoinSet<()>) {
    listen(|request| async move { metadata(&request) }).await
}

/// Answers every request on a free port.
async fn listen<F>(answer: impl Fn(Request<Incoming>) -> F + Clone + Send + 'static) -> (String, JoinSet<()>)
where
    F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.expect("the listener stays open");
            let answer = answer.clone();
            let answer = service_fn(move |request| {
                let answer = answer(request);
                async move { Ok::<_, Infallible>(answer.await) }
            });
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
