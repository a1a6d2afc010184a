//! What a reader of backups asks for before it uses one: somebody who is trusted must vouch for it.

use std::fmt;

pub use backstay_trust::{BadSignature, LineError, MANIFESTS, Signer, Signers, SigningKey, Voucher};

/// Whom a reader believes. By default nobody is known, so nothing can be asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    /// One of them must have signed a backup.
    pub signers: Signers,
    /// Unsigned backups are used all the same, and those whose signature does not count.
    pub allow_unsigned: bool,
}

/// Why a backup is not used without being asked for by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doubt {
    /// Its manifest cannot be read: the reason.
    Unreadable(String),
    /// Nobody signed it.
    Unsigned,
    /// It is signed, and the signature does not count.
    Bad(BadSignature),
}

impl Trust {
    /// Whether a signature is asked for.
    pub fn asks(&self) -> bool {
        !self.signers.is_empty() && !self.allow_unsigned
    }

    /// Why a backup with this voucher is not used; `None` where it is.
    pub fn doubt(&self, voucher: Option<&Voucher>) -> Option<Doubt> {
        match voucher {
            _ if !self.asks() => None,
            Some(Voucher::Signed(_)) => None,
            Some(Voucher::Bad(why)) => Some(Doubt::Bad(why.clone())),
            Some(Voucher::Unsigned) | None => Some(Doubt::Unsigned),
        }
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(why) => f.write_str(why),
            Self::Unsigned => f.write_str("nobody signed it"),
            Self::Bad(why) => write!(f, "{why}"),
        }
    }
}
