//! Names a store, as on a command line or in a URL.

use std::path::PathBuf;
use std::sync::Arc;

use url::Url;

use super::local::LocalStore;
use super::s3::{S3Settings, S3Store};
use super::{ErrorKind, Store, StoreError};
use crate::blocking::blocking;

/// A store that is not open yet.
#[derive(Debug, Clone)]
pub enum StoreSpec {
    /// A folder, by its absolute path.
    Local(PathBuf),
    /// A bucket.
    S3(Box<S3Settings>),
}

impl StoreSpec {
    /// Opens the store for someone who waits, and contacts it, so that an unreachable store is reported immediately.
    ///
    /// # Errors
    /// [`StoreError`] if the settings are invalid, nobody answers, or the credentials are not accepted.
    pub async fn open_to_read(self) -> Result<Arc<dyn Store>, StoreError> {
        match self {
            Self::S3(settings) => {
                let store = S3Store::new(*settings).await?;
                store.greet().await?;
                Ok(Arc::new(store))
            }
            local => local.open().await,
        }
    }

    /// The same for writing. A folder that can never hold backups is reported before anything is read.
    ///
    /// # Errors
    /// [`StoreError`] as for reading; [`ErrorKind::Invalid`] for such a folder.
    pub async fn open_to_write(self) -> Result<Arc<dyn Store>, StoreError> {
        let Self::Local(path) = self.clone() else { return self.open_to_read().await };
        let store = self.open().await?;
        match LocalStore::open(path)?.probe().await {
            Err(error) if error.is(ErrorKind::Invalid) => return Err(error),
            Err(error) => tracing::debug!(%error, "the folder could not be tested"),
            Ok(notes) => notes.iter().for_each(|note| tracing::warn!(store = store.url(), "{note}")),
        }
        Ok(store)
    }

    /// Opens the store. A bucket is not contacted yet; a folder must exist.
    ///
    /// # Errors
    /// [`StoreError`] if the settings are invalid, or the folder is not there.
    pub async fn open(self) -> Result<Arc<dyn Store>, StoreError> {
        Ok(match self {
            // A mount that hangs must not block the threads that run everything else.
            Self::Local(path) => Arc::new(blocking(move || LocalStore::open(path)).await?),
            Self::S3(settings) => Arc::new(S3Store::new(*settings).await?),
        })
    }
}

/// Reads `file:///path` or `s3://bucket[/prefix]`. For a bucket, `s3` contains the other settings; its bucket and
/// prefix are replaced.
///
/// ```
/// use backstay_archive::store::s3::S3Settings;
/// use backstay_archive::store::spec::{StoreSpec, parse_url};
///
/// let local = parse_url("file:///var/backups", S3Settings::default())?;
/// assert!(matches!(local, StoreSpec::Local(path) if path.is_absolute()));
///
/// let bucket = parse_url("s3://backups/prod", S3Settings::default())?;
/// assert!(matches!(bucket, StoreSpec::S3(s3) if s3.bucket == "backups" && s3.prefix == "prod"));
/// # Ok::<(), String>(())
/// ```
///
/// # Errors
/// A text for the person who typed it.
pub fn parse_url(text: &str, s3: S3Settings) -> Result<StoreSpec, String> {
    // What looks like a login is not repeated.
    let shown = if text.contains('@') { "" } else { text };
    let wrong = |why: &str| Err(format!("invalid store {shown:?}: {why}"));
    let url = match Url::parse(text) {
        Ok(url) => url,
        Err(_) => return wrong("must be file:///path or s3://bucket[/prefix]"),
    };
    if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() || url.password().is_some() {
        return Err("invalid store: the URL can only have a scheme, a bucket and a path".into());
    }
    match url.scheme() {
        "file" => match url.to_file_path() {
            Ok(path) => Ok(StoreSpec::Local(path)),
            Err(()) => wrong("the path must be absolute: file:///path"),
        },
        "s3" => match url.host_str() {
            Some(bucket) if url.port().is_none() => {
                let prefix = url.path().trim_matches('/').to_owned();
                Ok(StoreSpec::S3(Box::new(S3Settings { bucket: bucket.to_owned(), prefix, ..s3 })))
            }
            _ => wrong("bucket must be specified: s3://bucket[/prefix]"),
        },
        _ => wrong("must be file:///path or s3://bucket[/prefix]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<String, String> {
        let s3 = S3Settings { region: "eu".into(), ..S3Settings::default() };
        Ok(match parse_url(text, s3)? {
            StoreSpec::Local(path) => path.display().to_string(),
            StoreSpec::S3(s3) => format!("{} {} {}", s3.bucket, s3.prefix, s3.region),
        })
    }

    #[test]
    fn urls_of_both_kinds() {
        assert_eq!(parse("file:///var/a%20b").as_deref(), Ok("/var/a b"));
        assert_eq!(parse("s3://b").as_deref(), Ok("b  eu"));
        assert_eq!(parse("s3://B-1/x/y/").as_deref(), Ok("B-1 x/y eu"));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "b", "/path", "file://host/path", "s3://", "s3:///x", "s3://b:1/x", "http://b/x", "s3://b?x=1"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(!parse("s3://key:s3cr3t@b").expect_err("a secret").contains("s3cr3t"));
    }
}
