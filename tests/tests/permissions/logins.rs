//! Each way of saying to a real nats-server who one is: password, nkey, credentials file, certificates.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use backstay_archive::seal::{self, Identity};
use backstay_daemon::nats::{NatsSettings, Patience, connect};
use backstay_tests::daemon::{bare_command, binary};
use backstay_tests::{Folder, Nats, NatsOptions, Process};
use nkeys::KeyPair;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// So long a few tries to connect may take.
const SOON: std::time::Duration = std::time::Duration::from_secs(60);

/// Whether these settings bring a client in that can talk: a daemon, and `backstayctl` with the flags of the same names.
async fn comes_in(settings: &NatsSettings) -> Result<(), String> {
    let daemon = match connect(settings, "test", Patience::Command).await {
        Ok(client) => client.flush().await.map_err(|e| e.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let said = said_by_backstayctl(settings).await.map_err(|e| format!("{e:#}"))?;
    // Nobody is there who could answer, and that is seen from inside only.
    assert_eq!(
        daemon.is_ok(),
        said.contains("NATS is running, but no coordinator is connected"),
        "{daemon:?}, and backstayctl: {said}"
    );
    assert!(!said.contains("hunter"), "{said}");
    daemon
}

async fn said_by_backstayctl(settings: &NatsSettings) -> Result<String> {
    let NatsSettings { url, user, password, password_file, credentials, nkey, ca, cert, key } = settings;
    let mut command = tokio::process::Command::from(bare_command(&binary("backstayctl")?));
    command.args(["get", "cluster", "--nats", url]);
    if !user.is_empty() {
        command.args(["--nats-user", user]);
    }
    if !password.is_empty() {
        command.env("BACKSTAY_NATS__PASSWORD", password);
    }
    let files = [
        ("--nats-password-file", password_file),
        ("--nats-credentials", credentials),
        ("--nats-nkey", nkey),
        ("--nats-ca", ca),
        ("--nats-cert", cert),
        ("--nats-key", key),
    ];
    for (flag, file) in files {
        if let Some(file) = file {
            command.arg(flag).arg(file);
        }
    }
    let output = command.kill_on_drop(true).output().await.context("failed to run backstayctl")?;
    ensure!(output.status.code() == Some(1), "backstayctl ended with {}", output.status);
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

async fn serve(configuration: String) -> Result<Nats> {
    Nats::start_with(NatsOptions { configuration: Some(configuration), variables: Vec::new() }).await
}

fn settings(nats: &Nats) -> NatsSettings {
    NatsSettings { url: nats.url(), ..NatsSettings::default() }
}

fn file(folder: &Folder, name: &str, text: &str) -> Result<PathBuf> {
    let path = folder.path().join(name);
    std::fs::write(&path, text)?;
    Ok(path)
}

#[tokio::test]
async fn a_password_or_a_file_that_holds_it() -> Result<()> {
    let nats = serve("authorization { user: u, password: hunter2 }".into()).await?;
    let folder = Folder::new("logins")?;
    let password = NatsSettings { user: "u".into(), password: "hunter2".into(), ..settings(&nats) };
    ensure!(comes_in(&password).await.is_ok());
    let from_file = NatsSettings {
        user: "u".into(),
        password_file: Some(file(&folder, "password", "hunter2\n")?),
        ..settings(&nats)
    };
    ensure!(comes_in(&from_file).await == Ok(()), "{:?}", comes_in(&from_file).await);
    let wrong = NatsSettings { password: "hunter3".into(), ..password };
    for refused in [wrong, settings(&nats)] {
        let error = comes_in(&refused).await.expect_err("not the password");
        ensure!(error.contains("authorization violation") && !error.contains("hunter"), "{error}");
    }
    Ok(())
}

#[tokio::test]
async fn a_login_in_the_url() -> Result<()> {
    let with = |nats: &Nats, login: &str| {
        let url = nats.url().replace("://", &format!("://{login}@"));
        NatsSettings { url: format!("{url},{}", nats.url()), ..settings(nats) }
    };
    let nats = serve("authorization { user: u, password: \"hunter@2\" }".into()).await?;
    for login in ["u:hunter@2", "u:hunter%402"] {
        ensure!(comes_in(&with(&nats, login)).await == Ok(()), "{:?}", comes_in(&with(&nats, login)).await);
    }
    let error = comes_in(&with(&nats, "u:hunter3")).await.expect_err("not the password");
    ensure!(error.contains("authorization violation"), "{error}");
    let nats = serve("authorization { token: hunter2 }".into()).await?;
    ensure!(comes_in(&with(&nats, "hunter2")).await == Ok(()), "{:?}", comes_in(&with(&nats, "hunter2")).await);
    Ok(())
}

#[tokio::test]
async fn an_nkey() -> Result<()> {
    let (known, stranger) = (KeyPair::new_user(), KeyPair::new_user());
    let nats = serve(format!("authorization {{ users: [ {{ nkey: {} }} ] }}", known.public_key())).await?;
    let folder = Folder::new("logins")?;
    let with = |name: &str, key: &KeyPair| -> Result<NatsSettings> {
        let text = format!("{}\n{}\n", key.seed()?, key.public_key());
        Ok(NatsSettings { nkey: Some(file(&folder, name, &text)?), ..settings(&nats) })
    };
    ensure!(comes_in(&with("known", &known)?).await == Ok(()));
    let error = comes_in(&with("stranger", &stranger)?).await.expect_err("nobody knows it");
    ensure!(error.contains("authorization violation") && !error.contains(&stranger.seed()?), "{error}");
    // A seed that is none: the text does not quote it.
    let broken = NatsSettings { nkey: Some(file(&folder, "broken", "SUhunter2")?), ..settings(&nats) };
    let error = comes_in(&broken).await.expect_err("no seed");
    ensure!(!error.contains("hunter2"), "{error}");
    Ok(())
}

/// A JWT as `nsc` makes it.
fn token(claims: &mut serde_json::Value, issuer: &KeyPair) -> Result<String> {
    use base64::Engine;
    let encode = |bytes: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
    claims["iss"] = json!(issuer.public_key());
    let header = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let signed = format!("{}.{}", encode(&serde_json::to_vec(&header)?), encode(&serde_json::to_vec(claims)?));
    Ok(format!("{signed}.{}", encode(&issuer.sign(signed.as_bytes())?)))
}

fn claims(kind: &str, key: &KeyPair, more: serde_json::Value) -> serde_json::Value {
    let mut nats = json!({ "type": kind, "version": 2 });
    for (name, value) in more.as_object().into_iter().flatten() {
        nats[name.as_str()] = value.clone();
    }
    json!({ "jti": uuid::Uuid::new_v4().simple().to_string(), "iat": 1_700_000_000, "name": kind, "sub": key.public_key(), "nats": nats })
}

#[tokio::test]
async fn a_credentials_file() -> Result<()> {
    let (operator, account, user) = (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_user());
    let limits = json!({ "limits": { "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1,
        "wildcards": true, "conn": -1, "leaf": -1 } });
    let of_operator = token(&mut claims("operator", &operator, json!({})), &operator)?;
    let of_account = token(&mut claims("account", &account, limits), &operator)?;
    let of_user =
        |issuer: &KeyPair| token(&mut claims("user", &user, json!({ "subs": -1, "data": -1, "payload": -1 })), issuer);
    let nats = serve(format!(
        "operator: {of_operator}\nresolver: MEMORY\nresolver_preload {{ {}: {of_account} }}\n",
        account.public_key()
    ))
    .await?;
    let folder = Folder::new("logins")?;
    let with = |name: &str, token: &str| -> Result<NatsSettings> {
        let text = format!(
            "-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
            user.seed()?
        );
        Ok(NatsSettings { credentials: Some(file(&folder, name, &text)?), ..settings(&nats) })
    };
    let came = comes_in(&with("good", &of_user(&account)?)?).await;
    ensure!(came == Ok(()), "{came:?}");
    // Signed by an account that the server does not know.
    let error = comes_in(&with("forged", &of_user(&KeyPair::new_account())?)?).await.expect_err("forged");
    ensure!(error.contains("authorization violation"), "{error}");
    Ok(())
}

/// A CA, a certificate of a server at 127.0.0.1, and one of a client, as files.
struct Certificates {
    folder: Folder,
}

impl Certificates {
    fn new() -> Result<Self> {
        let folder = Folder::new("certificates")?;
        let key = rcgen::KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        file(&folder, "ca.crt", &params.self_signed(&key)?.pem())?;
        let ca = Issuer::new(params, key);
        for (name, usage) in
            [("server", ExtendedKeyUsagePurpose::ServerAuth), ("client", ExtendedKeyUsagePurpose::ClientAuth)]
        {
            let key = rcgen::KeyPair::generate()?;
            let mut params = CertificateParams::new(["127.0.0.1".to_owned()])?;
            params.extended_key_usages.push(usage);
            file(&folder, &format!("{name}.crt"), &params.signed_by(&key, &ca)?.pem())?;
            file(&folder, &format!("{name}.key"), &key.serialize_pem())?;
        }
        Ok(Self { folder })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn configuration(&self, verify: bool) -> String {
        let shown = |name: &str| Path::display(&self.path(name)).to_string();
        format!(
            "tls {{ cert_file: \"{}\", key_file: \"{}\", ca_file: \"{}\", verify: {verify} }}",
            shown("server.crt"),
            shown("server.key"),
            shown("ca.crt")
        )
    }
}

#[tokio::test]
async fn a_ca_and_a_client_certificate() -> Result<()> {
    let (ours, others) = (Certificates::new()?, Certificates::new()?);
    for verify in [false, true] {
        let nats = serve(ours.configuration(verify)).await?;
        let trusting = NatsSettings { ca: Some(ours.path("ca.crt")), ..settings(&nats) };
        let certified = |of: &Certificates| NatsSettings {
            cert: Some(of.path("client.crt")),
            key: Some(of.path("client.key")),
            ..trusting.clone()
        };
        ensure!(
            comes_in(&certified(&ours)).await == Ok(()),
            "verify {verify}: {:?}",
            comes_in(&certified(&ours)).await
        );
        // Without a certificate only where none is asked for; never with somebody else's.
        ensure!(comes_in(&trusting).await.is_ok() != verify, "verify {verify}");
        ensure!(comes_in(&certified(&others)).await.is_ok() != verify, "verify {verify}");
        // A server that another CA vouches for is nobody's, and neither is one that no CA was named for.
        let deceived = NatsSettings { ca: Some(others.path("ca.crt")), ..certified(&ours) };
        ensure!(comes_in(&deceived).await.is_err(), "verify {verify}: another CA was trusted");
        ensure!(comes_in(&NatsSettings { ca: None, ..certified(&ours) }).await.is_err(), "verify {verify}: no CA");
    }
    // Who names a CA wants TLS: a server without it gets no password.
    let open = Nats::start().await?;
    let error = comes_in(&NatsSettings { ca: Some(ours.path("ca.crt")), ..settings(&open) }).await;
    ensure!(error.is_err(), "TLS was asked for and there was none");
    Ok(())
}

/// Takes every connection for a client and refuses each login, as a NATS does; sends how many there were so far.
async fn refuse_all(listener: TcpListener, refused: watch::Sender<usize>) -> Result<()> {
    const INFO: &str = r#"{"server_id":"N","version":"2.9.10","proto":1,"max_payload":1048576,"auth_required":true}"#;
    loop {
        let (stream, _) = listener.accept().await?;
        let mut stream = BufReader::new(stream);
        stream.write_all(format!("INFO {INFO}\r\n").as_bytes()).await?;
        let mut line = String::new();
        while !line.starts_with("CONNECT ") {
            line.clear();
            if stream.read_line(&mut line).await? == 0 {
                break;
            }
        }
        stream.write_all(b"-ERR 'Authorization Violation'\r\n").await?;
        refused.send_modify(|times| *times += 1);
    }
}

/// What a daemon has logged once its login was refused some times.
async fn log_of(folder: &Folder, program: &str, url: &str, mut refused: watch::Receiver<usize>) -> Result<String> {
    let config = file(folder, "empty.toml", "")?;
    let state = folder.path().join(program);
    std::fs::create_dir(&state)?;
    let mut command = bare_command(&binary(program)?);
    command.env("BACKSTAY_NATS__URL", url).env("BACKSTAY_NATS__USER", "u").env("BACKSTAY_NATS__PASSWORD", "hunter2");
    command.env("BACKSTAY_STATE_DIR", &state).env("BACKSTAY_HTTP__LISTEN", "");
    if program == "backstay-agent" {
        command.arg("run").env("BACKSTAY_CLUSTER", "one").env("BACKSTAY_MACHINE", uuid::Uuid::new_v4().to_string());
    } else {
        std::fs::write(
            state.join("coordinator.key"),
            seal::identity_file(&Identity::generate(), "a test's").as_bytes(),
        )?;
        command.arg("serve").env("BACKSTAY_ENCRYPTION__MODE", "off").env("BACKSTAY_STORAGE__BACKEND", "s3");
    }
    command.arg("--config").arg(&config);
    let begin = *refused.borrow_and_update();
    let mut daemon = Process::spawn(program, command, &folder.path().join(format!("{program}.log")))?;
    let often = tokio::time::timeout(SOON, refused.wait_for(|times| *times >= begin + 6)).await;
    often.with_context(|| daemon.log())??;
    daemon.kill9();
    Ok(daemon.log())
}

#[tokio::test]
async fn a_login_that_is_refused_again_and_again_is_logged_once() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("nats://{}", listener.local_addr()?);
    let (sender, refused) = watch::channel(0);
    let folder = Folder::new("refused")?;
    let daemons = async {
        for program in ["backstay-coordinator", "backstay-agent"] {
            let log = log_of(&folder, program, &url, refused.clone()).await?;
            ensure!(log.matches("NATS rejected this user").count() == 1, "{log}");
            ensure!(!log.contains("async_nats") && !log.contains("hunter2"), "{log}");
        }
        Ok(())
    };
    tokio::select! {
        ended = daemons => ended,
        ended = refuse_all(listener, sender) => ended,
    }
}
