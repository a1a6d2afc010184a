//! Who vouches for what: signatures over bytes, made with an Ed25519 key, and the lists of signers that are trusted.
//!
//! The formats are OpenSSH's: an OpenSSH private key, a detached signature (`ssh-keygen -Y sign`, PROTOCOL.sshsig), and
//! an `allowed_signers` file (ssh-keygen(1)). `ssh-keygen -Y verify` checks what is signed here, with no tool of ours.
//! Nothing here reads files, knows a clock or talks to anybody.
//!
//! ```
//! use backstay_trust::{MANIFESTS, SigningKey, Signers, Voucher};
//!
//! let key = SigningKey::generate("coordinator");
//! let signature = key.sign(MANIFESTS, b"a manifest");
//! let signers = Signers::from_iter([key.signer("coordinator").expect("a name without spaces")]);
//! assert!(matches!(signers.check(MANIFESTS, b"a manifest", Some(&signature)), Voucher::Signed(by) if by.name() == "coordinator"));
//! assert!(matches!(signers.check(MANIFESTS, b"another", Some(&signature)), Voucher::Bad(_)));
//! assert!(matches!(signers.check(MANIFESTS, b"a manifest", None), Voucher::Unsigned));
//! ```

mod key;
mod signers;

pub use key::{KeyError, SigningKey};
pub use signers::{BadSignature, LineError, Signer, SignerError, Signers, Voucher};

/// What a signature over a manifest is for: its namespace, `ssh-keygen -Y verify -n backstay-manifest`. A signature that
/// was made for something else never vouches for a manifest.
pub const MANIFESTS: &str = "backstay-manifest";
