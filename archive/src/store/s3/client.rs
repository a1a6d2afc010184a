//! Connects to S3: credentials, region, endpoint, trusted certificates, retries.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use aws_config::BehaviorVersion;
use aws_config::environment::region::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::{ConfigLoader, SdkConfig};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::{RetryPartition, TokenBucket};
use aws_sdk_s3::config::{
    Builder, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation, SharedCredentialsProvider,
    SharedHttpClient,
};
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_types::service_config::ServiceConfigKey;
use backstay_protocol::certificates::{self, PemKind};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use url::Url;

use super::login::{self, Checked};
use super::patience::Patience;
use super::settings::S3Settings;
use super::ways::Addressing;
use crate::store::{ErrorKind, StoreError};

const DEFAULT_REGION: &str = "us-east-1";

/// Names a CA file for every tool that uses AWS.
const CA_VARIABLE: &str = "AWS_CA_BUNDLE";

/// One client for each way of addressing; both use the same connections.
#[derive(Clone)]
pub(super) struct Clients {
    path: Client,
    virtual_hosted: Client,
}

impl Clients {
    pub(super) fn new(config: &Builder) -> Self {
        let client = |path| Client::from_conf(config.clone().force_path_style(path).build());
        Self { path: client(true), virtual_hosted: client(false) }
    }

    pub(super) fn get(&self, addressing: Addressing) -> &Client {
        match addressing {
            Addressing::Path => &self.path,
            Addressing::Virtual | Addressing::Auto => &self.virtual_hosted,
        }
    }

    /// The same with other time limits and retries.
    pub(super) fn with_patience(&self, patience: &Patience) -> Self {
        let config = self.path.config().to_builder();
        Self::new(&config.retry_config(patience.retries()).timeout_config(patience.small()))
    }
}

/// Combines settings and environment; the settings take precedence.
pub(super) async fn load(settings: &S3Settings) -> Result<SdkConfig, StoreError> {
    if let Some(keys) = &settings.credentials {
        login::check_keys(&keys.access_key_id, &keys.secret_access_key, keys.session_token.as_deref())
            .map_err(|cause| settings.invalid(cause))?;
    }
    let region = match settings.region.as_str() {
        // Not the whole default chain, which would ask the instance's metadata service and wait for it.
        "" => RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
            .or_else(ProfileFileRegionProvider::new())
            .or_else(Region::new(DEFAULT_REGION)),
        region => RegionProviderChain::first_try(Region::new(region.to_owned())),
    };
    let loader: ConfigLoader =
        aws_config::defaults(BehaviorVersion::latest()).http_client(http_client(settings)?).region(region);
    let loader = match &settings.credentials {
        None => loader,
        Some(keys) => loader.credentials_provider(Credentials::new(
            &keys.access_key_id,
            &keys.secret_access_key,
            keys.session_token.clone().filter(|token| !token.is_empty()),
            None,
            "backstay",
        )),
    };
    Ok(loader.load().await)
}

/// The endpoint of the settings, or of the environment: the one for S3 before the general one.
pub(super) fn endpoint_of(settings: &S3Settings, shared: &SdkConfig) -> Option<String> {
    if !settings.endpoint.is_empty() {
        return Some(settings.endpoint.clone());
    }
    let key = ServiceConfigKey::builder()
        .service_id("S3")
        .env("AWS_ENDPOINT_URL")
        .profile("endpoint_url")
        .build()
        .expect("all three are given");
    // A variable that is set but empty counts as unset.
    let given = |endpoint: &String| !endpoint.trim().is_empty();
    let for_s3 = shared.service_config().and_then(|config| config.load_config(key)).filter(given);
    for_s3.or_else(|| shared.endpoint_url().map(str::to_owned)).filter(given)
}

pub(super) fn configure(shared: &SdkConfig, endpoint: Option<&Url>, patience: &Patience) -> Builder {
    // The retries of one request have their own limit. If all requests shared a budget, one part would fail because
    // others had to be sent again.
    let unlimited = RetryPartition::custom("backstay-s3").token_bucket(TokenBucket::unlimited()).build();
    let mut config = Builder::from(shared)
        .retry_config(patience.retries())
        .retry_partition(unlimited)
        .timeout_config(patience.small())
        .stalled_stream_protection(patience.stalls())
        // Other providers do not know the newer checksums; at AWS, the wanted one is requested.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    // `None` must be set, too: the SDK would use an empty variable as an address.
    config.set_endpoint_url(endpoint.map(|url| url.as_str().trim_end_matches('/').to_owned()));
    if let Some(provider) = shared.credentials_provider() {
        config.set_credentials_provider(Some(SharedCredentialsProvider::new(Checked(provider))));
    }
    config
}

/// Our own HTTP client: rustls with ring, and the certificate authorities that the settings trust.
fn http_client(settings: &S3Settings) -> Result<SharedHttpClient, StoreError> {
    let plain = settings.endpoint.starts_with("http://") && settings.credentials.is_some();
    let given = settings.ca_file.clone().map(|path| (path, settings.ca_source));
    let ca_file = given.or_else(|| Some((ca_of_environment(std::env::var_os(CA_VARIABLE))?, CA_VARIABLE)));
    let trust = match &ca_file {
        Some((path, source)) => TrustStore::empty().with_pem_certificate(authorities(settings, path, source)?),
        // No TLS at all, which also works on a machine without certificate authorities.
        None if plain => TrustStore::empty(),
        None => TrustStore::default(),
    };
    let context = TlsContext::builder().with_trust_store(trust).build().map_err(|error| settings.invalid(error))?;
    // HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, as usual.
    let proxy = ProxyConfig::from_env();
    Ok(aws_smithy_http_client::Builder::new().build_with_connector_fn(move |limits, components| {
        let mut connector = Connector::builder().proxy_config(proxy.clone());
        connector.set_connector_settings(limits.cloned());
        connector.set_sleep_impl(components.and_then(|components| components.sleep_impl()));
        connector.tls_provider(Provider::Rustls(CryptoMode::Ring)).tls_context(context.clone()).build()
    }))
}

/// The file that the CA variable names; none if it is empty.
fn ca_of_environment(value: Option<OsString>) -> Option<PathBuf> {
    value.filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// Reads and checks a CA file: the HTTP client would panic on one that it cannot parse.
fn authorities(settings: &S3Settings, path: &Path, source: &str) -> Result<Vec<u8>, StoreError> {
    let wrong = |cause: String| {
        let file = format_args!("{} ({source})", path.display());
        StoreError::new(ErrorKind::Invalid, "use CA file", file, cause)
    };
    let pem = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    if let Some(cause) = certificates::unusable(&pem, PemKind::Certificates) {
        return Err(wrong(cause));
    }
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| wrong(format!("not a PEM file: {error}")))?;
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(wrong(format!("it contains no usable CA certificate for bucket {:?}", settings.bucket)));
    }
    Ok(pem)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings_with(pem: &str) -> (tempfile::NamedTempFile, S3Settings) {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), pem).expect("written");
        let ca_file = Some(file.path().to_owned());
        (file, S3Settings { bucket: "b".into(), ca_file, ..S3Settings::default() })
    }

    #[test]
    fn a_ca_file_that_cannot_be_used_is_an_error_not_a_panic() {
        let junk = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
        let broken = "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n";
        for pem in ["", "hello", junk, broken] {
            let (_file, settings) = settings_with(pem);
            let error = http_client(&settings).expect_err(pem);
            assert!(error.is(ErrorKind::Invalid), "{error}");
        }
        let ca_file = Some("/does/not/exist".into());
        let missing = S3Settings { ca_file, ca_source: "--s3-ca", ..S3Settings::default() };
        let text = http_client(&missing).expect_err("missing").to_string();
        assert!(text.starts_with("failed to use CA file /does/not/exist (--s3-ca): No such file"), "{text}");
    }
}
