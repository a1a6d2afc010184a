//! Finds keys, secrets and regions that cannot be sent in a request, because a space or a line break was copied with
//! them. The SDK would panic on some of them, and AWS would call others a wrong signature. Also reports that there
//! are no credentials at all.

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::future;
use aws_sdk_s3::config::{ProvideCredentials, SharedCredentialsProvider};

/// Checks what is sent unchanged in a header: it must be printable and without spaces.
pub(super) fn check(what: &str, text: &str) -> Result<(), String> {
    let wrong = |how: &str| Err(format!("{what} {how}: enter it again, without any extra characters"));
    match text.chars().find(|c| !c.is_ascii_graphic()) {
        None => Ok(()),
        Some('\n' | '\r') => wrong("contains a line break"),
        Some(c) if c.is_whitespace() => wrong("contains a space"),
        Some(_) => wrong("contains a character that is not printable ASCII"),
    }
}

/// Checks a key pair. Errors quote neither part.
pub(super) fn check_keys(id: &str, secret: &str, token: Option<&str>) -> Result<(), String> {
    check("the access key ID", id)?;
    check("the session token", token.unwrap_or_default())?;
    let wrong = |how: &str| Err(format!("the secret access key {how}: enter it again, without any extra characters"));
    if secret.contains(['\n', '\r']) {
        return wrong("contains a line break");
    }
    if secret.trim() != secret {
        return wrong("begins or ends with a space");
    }
    match secret.chars().any(char::is_control) {
        true => wrong("contains a control character"),
        false => Ok(()),
    }
}

/// What to do if nothing provides credentials.
const SET: &str = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give this machine a role (a storage \
                   configuration takes accesskeyid and secretaccesskey)";

/// Reports that there are no credentials, where the SDK would list each place in which it looked. The last of them is
/// an instance's metadata service; whatever it answers instead of a role, there is none.
fn none(error: CredentialsError) -> CredentialsError {
    if matches!(error, CredentialsError::CredentialsNotLoaded(_)) {
        return CredentialsError::not_loaded(format!("no S3 credentials were found: {SET}"));
    }
    match innermost(&error) {
        cause if cause.contains("IMDS") => CredentialsError::not_loaded(format!(
            "no S3 credentials were found (instance metadata: {}): {SET}",
            cause.trim_end_matches('.')
        )),
        _ => error,
    }
}

/// The innermost cause of an error.
pub(super) fn innermost(error: &dyn Error) -> String {
    let mut root = error;
    while let Some(source) = root.source() {
        root = source;
    }
    root.to_string()
}

/// Checks what the environment's chain provides before it is used.
#[derive(Debug)]
pub(super) struct Checked(pub(super) SharedCredentialsProvider);

impl ProvideCredentials for Checked {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            let found = self.0.provide_credentials().await.map_err(none)?;
            check_keys(found.access_key_id(), found.secret_access_key(), found.session_token())
                .map_err(CredentialsError::invalid_configuration)?;
            Ok(found)
        })
    }

    fn fallback_on_interrupt(&self) -> Option<aws_sdk_s3::config::Credentials> {
        self.0.fallback_on_interrupt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_credentials_at_all_is_said_as_that() {
        let said = |error| innermost(&none(error));
        let text = said(CredentialsError::not_loaded("no credentials found in chain. Attempted: …"));
        assert_eq!(text, format!("no S3 credentials were found: {SET}"));
        let text = said(CredentialsError::provider_error("request forbidden: IMDS is disabled."));
        let begin =
            "no S3 credentials were found (instance metadata: request forbidden: IMDS is disabled): set AWS_ACC";
        assert!(text.starts_with(begin), "{text}");
        let text = said(CredentialsError::provider_error("the process of the profile ended with 1"));
        assert_eq!(text, "the process of the profile ended with 1");
    }

    #[test]
    fn what_came_along_is_named_and_nothing_is_quoted() {
        let cases = [
            ("id\n", "s3cret", None, "the access key ID contains a line break"),
            ("i d", "s3cret", None, "the access key ID contains a space"),
            ("\tid", "s3cret", None, "the access key ID contains a space"),
            ("id\u{e9}", "s3cret", None, "the access key ID contains a character"),
            ("id", "s3cret\r\n", None, "the secret access key contains a line break"),
            ("id", " s3cret", None, "the secret access key begins or ends with a space"),
            ("id", "s3\u{7}cret", None, "the secret access key contains a control character"),
            ("id", "s3cret", Some("s3cret\n"), "the session token contains a line break"),
        ];
        for (id, secret, token, part) in cases {
            let text = check_keys(id, secret, token).expect_err(part);
            assert!(text.starts_with(part) && !text.contains("cret:") && !text.contains("s3"), "{text}");
        }
        check_keys("AKIA/+=", "with a space", Some("t/+=")).expect("some providers' secrets have blanks");
        check("the region", "eu-west-1").expect("good");
        check("the region", " eu-west-1").expect_err("a blank");
    }
}
