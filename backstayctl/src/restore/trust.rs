//! Who must have signed a backup: the flags, and what they say together with the recovery key's file.

use std::path::{Path, PathBuf};

use backstay_archive::seal::{self, Identity};
use backstay_archive::trust::{LineError, Signers, Trust, Voucher};
use backstay_daemon::key_file;
use clap::Args;

use super::error::RestoreFailure;

/// Whom to trust.
#[derive(Debug, Args)]
pub struct SignerFlags {
    /// File with the public keys that may have signed a backup (a .pub file, or several as in ssh-keygen's
    /// allowed_signers); can be repeated
    #[arg(long = "signer", value_name = "FILE")]
    pub signers: Vec<PathBuf>,
}

impl SignerFlags {
    /// Those of all files.
    ///
    /// # Errors
    /// A file cannot be read, or names nobody.
    pub fn signers(&self) -> Result<Signers, RestoreFailure> {
        let files = self.signers.iter().map(|path| in_file(path));
        files.into_iter().try_fold(Signers::default(), |all, file| Ok(all.and(file?)))
    }
}

fn in_file(path: &Path) -> Result<Signers, RestoreFailure> {
    let failed = |why: String| RestoreFailure::Signers { path: path.to_owned(), why };
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    let signers: Signers = text.parse().map_err(|error: LineError| failed(error.to_string()))?;
    // A list of nobody would ask for nothing.
    if signers.is_empty() { Err(failed("it has no public key".into())) } else { Ok(signers) }
}

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
        let signers = Signers::in_comments(&text)
            .map_err(|error| RestoreFailure::Signers { path: path.to_owned(), why: error.to_string() })?;
        Ok(Self { path: path.to_owned(), identity, signers })
    }
}

/// Whom to trust, of what was given.
///
/// # Errors
/// A file of signers cannot be used.
pub fn trust(flags: &SignerFlags, key: Option<&KeyFile>, allow_unsigned: bool) -> Result<Trust, RestoreFailure> {
    let of_key = key.map(|key| key.signers.clone()).unwrap_or_default();
    Ok(Trust { signers: of_key.and(flags.signers()?), allow_unsigned })
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
