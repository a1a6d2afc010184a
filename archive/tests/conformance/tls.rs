//! A certificate for 127.0.0.1 and `storage.invalid` that no machine trusts, and a store that trusts it only when
//! told.

use std::io::Write;
use std::sync::Arc;

use backstay_archive::store::ErrorKind;
use backstay_archive::store::s3::S3Settings;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio_rustls::TlsAcceptor;

use super::provider::Habits;
use super::server::Server;

pub struct Certificate(rcgen::CertifiedKey<rcgen::KeyPair>);

impl Certificate {
    pub fn new() -> Self {
        Self(
            rcgen::generate_simple_self_signed(["127.0.0.1".to_owned(), "storage.invalid".to_owned()])
                .expect("a good name"),
        )
    }

    pub fn acceptor(&self) -> TlsAcceptor {
        let key = PrivateKeyDer::try_from(self.0.signing_key.serialize_der()).expect("a good key");
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring knows them")
            .with_no_client_auth()
            .with_single_cert(vec![self.0.cert.der().clone()], key)
            .expect("they belong together");
        TlsAcceptor::from(Arc::new(config))
    }

    /// As a CA file.
    pub fn file(&self) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(self.0.cert.pem().as_bytes()).expect("written");
        file
    }
}

#[tokio::test]
async fn a_ca_file_is_trusted_and_nothing_else() {
    let (own, other) = (Certificate::new(), Certificate::new());
    let server = Server::start_with_tls(Habits::default(), own.acceptor()).await;
    for (ca, trusted) in [(&own, true), (&other, false)] {
        let file = ca.file();
        let settings = S3Settings { ca_file: Some(file.path().to_owned()), ..server.settings() };
        let result = server.store_with(settings, |_| {}).await.probe().await;
        match result {
            Ok(notes) => assert!(trusted && notes.is_empty(), "{notes:?}"),
            Err(error) => {
                assert!(!trusted && error.is(ErrorKind::Unavailable), "{error}");
                assert!(error.cause.contains("certificate"), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn an_endpoint_without_tls_that_is_asked_for_it_is_said() {
    let server = Server::start(Habits::default()).await;
    let endpoint = server.settings().endpoint.replace("http://", "https://");
    let ca = Certificate::new().file();
    let settings = S3Settings { endpoint, ca_file: Some(ca.path().to_owned()), ..server.settings() };
    let store = server.store_with(settings, |_| {}).await;
    let error = store.probe().await.expect_err("it does not speak TLS").to_string();
    assert!(error.contains("begin with http://"), "{error}");
}
