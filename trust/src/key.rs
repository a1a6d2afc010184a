//! The key that signs.

use std::fmt;

use rand::{TryRngCore, rngs::OsRng};
use ssh_key::private::{Ed25519Keypair, KeypairData, PrivateKey};
use ssh_key::{Algorithm, HashAlg, LineEnding};
use zeroize::Zeroizing;

use crate::signers::{Signer, SignerError};

/// An Ed25519 key, as `ssh-keygen -t ed25519` makes it. Its private half is never printed.
pub struct SigningKey(PrivateKey);

/// Why a text is no signing key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// No OpenSSH private key at all, or a broken one.
    #[error("not an OpenSSH private key: {0}")]
    Format(ssh_key::Error),
    /// A key of another kind.
    #[error("the key is of another kind; only Ed25519 keys are supported (ssh-keygen -t ed25519)")]
    Algorithm,
    /// A key that needs a passphrase.
    #[error("the key is protected by a passphrase; remove it from a copy with: ssh-keygen -p -N '' -f FILE")]
    Passphrase,
}

impl SigningKey {
    /// A new key from the system's randomness. The comment names it to people.
    ///
    /// # Panics
    /// Where the system has no randomness to give.
    pub fn generate(comment: &str) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        OsRng.try_fill_bytes(seed.as_mut()).expect("the system has randomness");
        let pair = KeypairData::from(Ed25519Keypair::from_seed(&seed));
        Self(PrivateKey::new(pair, comment).expect("an Ed25519 key is not encrypted"))
    }

    /// Reads an OpenSSH private key (`-----BEGIN OPENSSH PRIVATE KEY-----`).
    ///
    /// # Errors
    /// It is none, not of Ed25519, or protected by a passphrase.
    pub fn from_openssh(text: &str) -> Result<Self, KeyError> {
        let key = PrivateKey::from_openssh(text.trim_start()).map_err(|error| match error {
            ssh_key::Error::AlgorithmUnknown => KeyError::Algorithm,
            other => KeyError::Format(other),
        })?;
        if key.is_encrypted() {
            return Err(KeyError::Passphrase);
        }
        match key.algorithm() {
            Algorithm::Ed25519 => Ok(Self(key)),
            _ => Err(KeyError::Algorithm),
        }
    }

    /// The private key as a file holds it. Handle it as the secret that it is.
    pub fn to_openssh(&self) -> Zeroizing<String> {
        self.0.to_openssh(LineEnding::LF).expect("a key without a passphrase can be written")
    }

    /// The public half as a signer of that name.
    ///
    /// # Errors
    /// The name cannot stand in a list of signers.
    pub fn signer(&self, name: &str) -> Result<Signer, SignerError> {
        Signer::new(name, self.0.public_key().key_data().clone())
    }

    /// `SHA256:…` of the public half, as `ssh-keygen -l` prints it.
    pub fn fingerprint(&self) -> String {
        self.0.fingerprint(HashAlg::Sha256).to_string()
    }

    /// A detached signature over `bytes` for that namespace, as `ssh-keygen -Y sign -n NAMESPACE` writes it.
    ///
    /// # Panics
    /// Where the namespace is empty.
    pub fn sign(&self, namespace: &str, bytes: &[u8]) -> String {
        let signature = self.0.sign(namespace, HashAlg::Sha512, bytes).expect("an Ed25519 key signs for a namespace");
        signature.to_pem(LineEnding::LF).expect("a signature can be written")
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.fingerprint())
    }
}
