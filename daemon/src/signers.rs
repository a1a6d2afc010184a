//! The flag that names trusted signers, and what its files say.

use std::path::{Path, PathBuf};

use backstay_archive::trust::{LineError, Signers};
use clap::Args;

/// Whom to trust.
#[derive(Debug, Clone, Default, Args)]
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
    /// A file cannot be read, or names nobody; the text names it.
    pub fn signers(&self) -> Result<Signers, String> {
        let files = self.signers.iter().map(|path| in_file(path));
        files.into_iter().try_fold(Signers::default(), |all, file| Ok(all.and(file?)))
    }
}

fn in_file(path: &Path) -> Result<Signers, String> {
    let failed = |why: String| format!("the signers in {} cannot be used: {why}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    let signers: Signers = text.parse().map_err(|error: LineError| failed(error.to_string()))?;
    // A list of nobody would ask for nothing.
    if signers.is_empty() { Err(failed("it has no public key".into())) } else { Ok(signers) }
}
