//! The settings of a bucket, and the checks that need no network.

use std::fmt;
use std::path::PathBuf;

use url::Url;

use super::ways::{Addressing, Checksum};
use crate::store::{ErrorKind, Key, StoreError};

/// Where a bucket is and how to log in. An empty text is taken from the usual AWS environment (variables, then the
/// profile), and then from AWS's defaults.
#[derive(Debug, Clone, Default)]
pub struct S3Settings {
    /// The bucket's name.
    pub bucket: String,
    /// The region. If empty, that of the environment, or `us-east-1`.
    pub region: String,
    /// `http://` or `https://` and a host. If empty, that of the environment, or AWS.
    pub endpoint: String,
    /// All keys are below this: empty, or segments such as `a/b`.
    pub prefix: String,
    /// The key pair; `None` for the environment's default chain (variables, profile, web identity, instance role).
    pub credentials: Option<S3Credentials>,
    /// A PEM file with the only certificate authorities to trust; `None` for those of this machine.
    pub ca_file: Option<PathBuf>,
    /// What a person calls the setting that `ca_file` comes from, such as `--s3-ca`: for errors.
    pub ca_source: &'static str,
    /// How objects are to be stored.
    pub objects: ObjectSettings,
    /// Where the bucket's name is in a request.
    pub addressing: Addressing,
    /// Which checksum is sent with each body.
    pub checksum: Checksum,
    /// Whether this provider answers "forbidden" for objects that do not exist, as a probe found out.
    pub absent_is_denied: bool,
}

/// How objects are to be stored. If empty, as the bucket's own settings say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ObjectSettings {
    /// Storage class of backups, such as `STANDARD_IA`. Manifests and keys are small and read often, so they use the
    /// bucket's default.
    pub storage_class: String,
    /// Server-side encryption of all objects: `AES256`, `aws:kms` or `aws:kms:dsse`.
    pub server_side_encryption: String,
    /// The key for `aws:kms`; if empty, AWS's own.
    pub kms_key_id: String,
}

/// A key pair, perhaps of a temporary session. `Debug` shows only the ID.
#[derive(Clone)]
pub struct S3Credentials {
    /// The access key ID, which is not secret.
    pub access_key_id: String,
    /// The secret access key.
    pub secret_access_key: String,
    /// The session token of temporary credentials; `None` for permanent ones.
    pub session_token: Option<String>,
}

impl fmt::Debug for S3Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Credentials").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

impl S3Settings {
    pub(super) fn invalid(&self, cause: impl fmt::Display) -> StoreError {
        StoreError::new(ErrorKind::Invalid, "use", format_args!("bucket {:?}", self.bucket), cause)
    }

    /// The prefix as it precedes every key: empty, or ending with `/`.
    pub(super) fn checked_prefix(&self) -> Result<String, StoreError> {
        let prefix = self.prefix.trim_matches('/');
        match prefix {
            "" => Ok(String::new()),
            _ if Key::new(prefix).is_some() => Ok(format!("{prefix}/")),
            _ => Err(self.invalid(format_args!("{:?} is not a valid prefix", self.prefix))),
        }
    }

    /// Values that S3 does not know are refused by S3, when a configuration is tested; these are mistakes in any
    /// case.
    pub(super) fn check_objects(&self) -> Result<(), StoreError> {
        let objects = &self.objects;
        if !objects.kms_key_id.is_empty() && !objects.server_side_encryption.starts_with("aws:kms") {
            return Err(self.invalid("a KMS key can only be used with server-side encryption \"aws:kms\""));
        }
        for text in [&objects.storage_class, &objects.server_side_encryption, &objects.kms_key_id] {
            if text.bytes().any(|b| b.is_ascii_whitespace() || b.is_ascii_control()) {
                return Err(self.invalid(format_args!("{text:?} is not a valid object setting")));
            }
        }
        Ok(())
    }

    pub(super) fn check_bucket(&self) -> Result<(), StoreError> {
        if self.bucket.is_empty() {
            return Err(self.invalid("bucket must be specified"));
        }
        let bad = |c: char| matches!(c, '/' | '?' | '#') || c.is_whitespace() || c.is_control();
        if self.bucket.contains(bad) {
            return Err(self.invalid("this is not a valid bucket name"));
        }
        Ok(())
    }

    /// Parses an endpoint. One with a user or a password is refused, because it would appear in logs.
    pub(super) fn checked_endpoint(&self, endpoint: &str) -> Result<Url, StoreError> {
        let url = Url::parse(endpoint)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or_else(|| self.invalid("the endpoint must be http:// or https:// followed by a host"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(self.invalid("the endpoint must not contain a user or a password"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(self.invalid("the endpoint must not have anything after its host, port and path"));
        }
        Ok(url)
    }
}

/// Whether an endpoint belongs to AWS.
pub(super) fn is_aws(endpoint: &Url) -> bool {
    let host = endpoint.host_str().unwrap_or_default();
    host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(bucket: &str, prefix: &str) -> S3Settings {
        S3Settings { bucket: bucket.into(), prefix: prefix.into(), ..S3Settings::default() }
    }

    #[test]
    fn no_secret_in_debug() {
        let credentials = S3Credentials {
            access_key_id: "AKIA".into(),
            secret_access_key: "very-secret".into(),
            session_token: Some("also-secret".into()),
        };
        let settings = S3Settings { credentials: Some(credentials), ..settings("b", "") };
        let text = format!("{settings:?}");
        assert!(text.contains("AKIA") && !text.contains("secret"), "{text}");
    }

    #[test]
    fn prefixes_end_with_a_slash_or_are_empty() {
        for (given, expected) in [("", ""), ("/", ""), ("a", "a/"), ("/a/b/", "a/b/")] {
            assert_eq!(settings("b", given).checked_prefix().expect(given), expected);
        }
        settings("b", "a/../b").checked_prefix().expect_err("leads up");
        settings("b", "a//b").checked_prefix().expect_err("empty segment");
    }

    #[test]
    fn endpoints() {
        let settings = settings("b", "");
        for good in ["http://127.0.0.1:9000", "https://s3.example.org", "https://host/base", "http://[::1]:9000"] {
            settings.checked_endpoint(good).expect(good);
        }
        for bad in ["minio:9000", "127.0.0.1:9000", "ftp://host", "https://", "https://host/?x=1"] {
            settings.checked_endpoint(bad).expect_err(bad);
        }
        let text = settings.checked_endpoint("https://user:hunter2@host").expect_err("a password").to_string();
        assert!(!text.contains("hunter2"), "{text}");
        assert!(is_aws(&settings.checked_endpoint("https://s3.eu-west-1.amazonaws.com").expect("good")));
        assert!(!is_aws(&settings.checked_endpoint("https://amazonaws.com.example.org").expect("good")));
    }
}
