//! Encryption: age for small secrets and key files, and, in [`stream`], zstd and age for whole databases.
//!
//! The algorithms and the text form of keys are chosen here. Errors never contain a secret.
//!
//! ```
//! use backstay_archive::seal;
//!
//! let identity = seal::Identity::generate();
//! let file = seal::identity_file(&identity, "recovery key of cluster prod");
//! let recipient = seal::parse_recipient(&identity.to_public().to_string())?;
//!
//! let sealed = seal::seal_bytes(&[recipient], b"secret")?;
//! let opened = seal::open_bytes(&seal::parse_identity(&file)?, &sealed)?;
//! assert_eq!(opened.as_slice(), b"secret");
//! # Ok::<(), seal::SealError>(())
//! ```

use std::io::{Read, Write};
use std::iter;

use age::secrecy::ExposeSecret;
pub use age::x25519::{Identity, Recipient};
use age::{DecryptError, Decryptor, EncryptError, Encryptor};
use zeroize::Zeroizing;

pub mod stream;

/// Limit for the secrets that [`open_bytes`] decrypts, in bytes.
pub const SECRET_MAX: usize = 1024 * 1024;

const SECRET_PREFIX: &str = "AGE-SECRET-KEY-1";

/// Why something could not be encrypted, decrypted or read as a key.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// There are no recipients, so nobody could decrypt it.
    #[error("failed to encrypt: no recipient was given")]
    NoRecipients,
    /// age's error.
    #[error("failed to encrypt: {0}")]
    Encrypt(#[from] EncryptError),
    /// age's error: it is not an age file, it is damaged, or it is for other recipients.
    #[error("failed to open what is sealed: {0}")]
    Decrypt(#[from] DecryptError),
    /// The encrypted data is damaged or truncated.
    #[error("failed to open what is sealed: {0}")]
    Io(#[from] std::io::Error),
    /// The decrypted secret is larger than [`SECRET_MAX`].
    #[error("failed to decrypt: it contains more than {SECRET_MAX} bytes")]
    TooLarge,
    /// A text is not an age recipient.
    #[error("invalid age recipient {given:?}: {reason}")]
    Recipient {
        /// The beginning of the text; `<hidden>` unless it begins with `age1`, because it may be a secret.
        given: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A text is not an age identity. The text is not quoted, because it may be a secret with a typing error.
    #[error("invalid age identity: {0}")]
    Identity(&'static str),
}

/// Encrypts a small secret; each of `recipients` can decrypt it.
///
/// # Errors
/// [`SealError::NoRecipients`] if there are none; [`SealError::Encrypt`] if age fails.
pub fn seal_bytes(recipients: &[Recipient], plain: &[u8]) -> Result<Vec<u8>, SealError> {
    if recipients.is_empty() {
        return Err(SealError::NoRecipients);
    }
    let encryptor = Encryptor::with_recipients(recipients.iter().map(|r| r as &dyn age::Recipient))?;
    let mut writer = encryptor.wrap_output(Vec::with_capacity(plain.len() + 512))?;
    writer.write_all(plain)?;
    Ok(writer.finish()?)
}

/// Decrypts what [`seal_bytes`] encrypted, of at most [`SECRET_MAX`] bytes. The buffer is overwritten when it is
/// dropped.
///
/// # Errors
/// [`SealError::Decrypt`] if it is not encrypted for this identity, [`SealError::Io`] if it is damaged,
/// [`SealError::TooLarge`] if it is too large.
pub fn open_bytes(identity: &Identity, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let reader = Decryptor::new_buffered(sealed)?.decrypt(iter::once(identity as &dyn age::Identity))?;
    // Not larger than the encrypted form, so the buffer never grows and leaves no copy behind.
    let mut plain = Zeroizing::new(Vec::with_capacity(sealed.len().min(SECRET_MAX) + 1));
    reader.take(SECRET_MAX as u64 + 1).read_to_end(&mut plain)?;
    if plain.len() > SECRET_MAX { Err(SealError::TooLarge) } else { Ok(plain) }
}

/// Reads the public half of an age key: `age1…`. Spaces around it are ignored.
///
/// # Errors
/// [`SealError::Recipient`] with the reason.
pub fn parse_recipient(text: &str) -> Result<Recipient, SealError> {
    let text = text.trim();
    // Only what looks like a public key is quoted; anything else may be a secret.
    let given = if text.starts_with("age1") { text.chars().take(80).collect() } else { "<hidden>".to_owned() };
    if text.to_ascii_uppercase().starts_with(SECRET_PREFIX) {
        let reason = "this is a secret key, and a recipient is a public key: print it with `age-keygen -y FILE`";
        return Err(SealError::Recipient { given, reason });
    }
    if !text.starts_with("age1") {
        return Err(SealError::Recipient { given, reason: "a recipient must begin with age1" });
    }
    text.parse().map_err(|reason| SealError::Recipient { given, reason })
}

/// Reads the text of an age key file: comment lines and exactly one line `AGE-SECRET-KEY-1…`.
///
/// # Errors
/// [`SealError::Identity`] with the reason; the text is not quoted.
pub fn parse_identity(text: &str) -> Result<Identity, SealError> {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let line = lines.next().ok_or(SealError::Identity("the file contains no key"))?;
    if lines.next().is_some() {
        return Err(SealError::Identity("the file has more than one line that is not a comment"));
    }
    if !line.starts_with(SECRET_PREFIX) {
        return Err(SealError::Identity("the key does not begin with AGE-SECRET-KEY-1"));
    }
    line.parse().map_err(SealError::Identity)
}

/// The text of an age key file, as `age-keygen` writes it. Each line of `comment`, which may be empty, becomes a
/// comment line.
pub fn identity_file(identity: &Identity, comment: &str) -> Zeroizing<String> {
    let secret = identity.to_string();
    let mut file = Zeroizing::new(String::with_capacity(comment.len() * 3 + 256));
    for line in comment.lines() {
        file.push_str("# ");
        file.push_str(line);
        file.push('\n');
    }
    file.push_str(&format!("# public key: {}\n", identity.to_public()));
    file.push_str(secret.expose_secret());
    file.push('\n');
    file
}

#[cfg(test)]
mod tests;
