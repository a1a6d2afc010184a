//! Opens the store with a given URL.

use std::ops::Deref;
use std::sync::Arc;

use backstay_archive::Store;
use backstay_archive::store::s3::S3Settings;
use backstay_daemon::bucket::Named;

use super::error::RestoreFailure;

/// A store that is open, and how it was typed.
pub struct Opened {
    store: Arc<dyn Store>,
    named: Named,
}

impl Opened {
    /// The command that shows what is in it; it can be pasted.
    pub fn list_line(&self) -> String {
        format!("backstayctl list {}", self.named)
    }
}

impl Deref for Opened {
    type Target = dyn Store;

    fn deref(&self) -> &Self::Target {
        &*self.store
    }
}

/// Opens the store that a URL names, with what the flags and the usual AWS environment say of its bucket.
///
/// # Errors
/// The URL is invalid, or the store cannot be reached or read.
pub async fn open(named: Named, s3: S3Settings) -> Result<Opened, RestoreFailure> {
    let store = named.parse(s3).map_err(RestoreFailure::Usage)?.open_to_read().await?;
    Ok(Opened { store, named })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_line_that_lists_a_store_can_be_pasted() {
        let folder = tempfile::tempdir().expect("a folder");
        let url = format!("file://{}/my backups", folder.path().display());
        std::fs::create_dir(folder.path().join("my backups")).expect("made");
        let flags = vec!["--endpoint".to_owned(), "http://h:1".to_owned()];
        let opened = open(Named { url: url.clone(), flags }, S3Settings::default()).await.expect("open");
        assert_eq!(opened.list_line(), format!("backstayctl list --store '{url}' --endpoint http://h:1"));
    }
}
