//! Who must have signed a backup: the flags, and what they say together with the recovery key's file.

use std::path::{Path, PathBuf};

use backstay_archive::seal::{self, Identity};
use backstay_archive::trust::{Signers, Trust, Voucher};
use backstay_daemon::key_file;
use backstay_daemon::signers::SignerFlags;

use super::error::RestoreFailure;

/// What a person gives to open backups, and whom to trust with it.
pub struct KeyFile {
    pub path: PathBuf,
    pub identity: Identity,
    /// Those that its comments name.
    pub signers: Signers,
}

impl KeyFile {
    /// Reads an age identity, and the signers that its comments name.
    ///
    /// # Errors
    /// It cannot be read, or is none.
    pub fn read(path: &Path) -> Result<Self, RestoreFailure> {
        let text =
            key_file::read(path).map_err(|cause| RestoreFailure::ReadIdentity { path: path.to_owned(), cause })?;
        let identity =
            seal::parse_identity(&text).map_err(|cause| RestoreFailure::Identity { path: path.to_owned(), cause })?;
        let signers = Signers::in_comments(&text).map_err(|error| {
            RestoreFailure::Signers(format!("the signers in {} cannot be used: {error}", path.display()))
        })?;
        Ok(Self { path: path.to_owned(), identity, signers })
    }
}

/// Whom to trust, of what was given.
///
/// # Errors
/// A file of signers cannot be used.
pub fn trust(flags: &SignerFlags, key: Option<&KeyFile>, allow_unsigned: bool) -> Result<Trust, RestoreFailure> {
    let of_key = key.map(|key| key.signers.clone()).unwrap_or_default();
    let given = flags.signers().map_err(RestoreFailure::Signers)?;
    Ok(Trust { signers: of_key.and(given), allow_unsigned })
}

/// Who made a backup, for a person.
pub fn told(voucher: Option<&Voucher>) -> String {
    match voucher {
        Some(Voucher::Signed(by)) => format!("by {} ({})", by.name(), by.fingerprint()),
        Some(Voucher::Unsigned) => "no: nobody vouches for who made it".into(),
        Some(Voucher::Bad(why)) => format!("by nobody who is trusted: {why}"),
        None => "not checked: no signer is known (--signer FILE), so nobody vouches for who made it".into(),
    }
}
