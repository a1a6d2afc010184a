//! Certificates and keys that cannot be used: each is named as what it is, by each program and for each server.

use anyhow::{Result, ensure};
use backstay_tests::{LoneEtcd, eventually};

use crate::terminal::Terminal;
use crate::world::{CLUSTER, SOON, stand};

/// Keys and certificates of the kinds that matter, in the terminal's folder.
async fn make(terminal: &Terminal) -> Result<()> {
    let new = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:";
    for (name, curve) in [("p521", "P-521"), ("p256", "P-256")] {
        let line =
            format!("{new}{curve} -nodes -keyout {name}.key -out {name}.crt -subj /CN={name} -days 30 2> openssl.log");
        terminal.silent(&line).await?;
    }
    terminal.silent("openssl pkey -in p256.key -aes256 -passout pass:hunter2 -out sealed.key").await?;
    // A server's certificate on P-521, signed by the authority on P-256.
    let leaf = "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-521 -nodes -keyout leaf.key -out leaf.csr \
                -subj /CN=leaf -addext subjectAltName=IP:127.0.0.1 2> openssl.log && \
                openssl x509 -req -in leaf.csr -copy_extensions copy -CA p256.crt -CAkey p256.key -CAcreateserial \
                -out leaf.crt -days 30 2> openssl.log";
    terminal.silent(leaf).await
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named_as_what_they_are() -> Result<()> {
    let stand = stand().cluster(CLUSTER, 1).idle().start().await?;
    let terminal = Terminal::new(&stand)?;
    make(&terminal).await?;
    terminal.silent("mkdir store").await?;
    let once = "backstay-agent once --cluster c --store file://$PWD/store --recipient age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg --etcd https://127.0.0.1:1 --etcd-ca";
    let nats = "backstayctl --nats tls://127.0.0.1:1";
    let curve = "has a key on the curve P-521: use RSA, the curves P-256 or P-384, or Ed25519";
    let sealed = "the private key is encrypted, and there is no way to enter its passphrase";
    for (command, says) in [
        (format!("{once} p521.crt"), curve),
        (format!("{once} p256.crt --etcd-cert p256.crt --etcd-key sealed.key"), sealed),
        (format!("{once} p256.crt --etcd-cert p521.crt --etcd-key p521.key"), curve),
        (format!("{once} p256.crt --etcd-cert p256.crt --etcd-key p521.key"), "the private key is on the curve P-521"),
        (format!("{nats} --nats-ca p521.crt get clusters"), curve),
        (format!("{nats} --nats-ca p256.crt --nats-cert p256.crt --nats-key sealed.key get clusters"), sealed),
        ("backstayctl list --store s3://b --endpoint https://127.0.0.1:1 --s3-ca p521.crt".to_owned(), curve),
    ] {
        let error = terminal.refused(&command).await?;
        ensure!(error.contains(says) && !error.contains("hunter2"), "`{command}`: {error}");
    }
    Ok(())
}

#[tokio::test]
async fn a_server_s_certificate_that_cannot_be_used_is_the_reason() -> Result<()> {
    let stand = stand().cluster(CLUSTER, 1).idle().start().await?;
    let terminal = Terminal::new(&stand)?;
    make(&terminal).await?;
    terminal.silent("mkdir store").await?;
    let certificate = ["--cert-file", "leaf.crt", "--key-file", "leaf.key"];
    let etcd = LoneEtcd::start(terminal.folder(), "etcd", "https", &certificate).await?;
    let url = &etcd.client_url;
    let once = format!("backstay-agent once --cluster c --store file://$PWD/store --etcd {url} --etcd-ca p256.crt");
    eventually(SOON, || async {
        let error = terminal.run(&once).await?.stderr;
        ensure!(error.contains("an unsupported kind of key, such as the curve P-521"), "{error}");
        Ok(())
    })
    .await
}
