//! Opens the store with a given URL.

use std::sync::Arc;

use backstay_archive::Store;
use backstay_archive::store::s3::S3Settings;
use backstay_archive::store::spec;

use super::error::RestoreFailure;

/// Opens the store with this URL; flags and the usual AWS environment say how to reach its bucket.
pub async fn open(url: &str, s3: S3Settings) -> Result<Arc<dyn Store>, RestoreFailure> {
    Ok(spec::parse_url(url, s3).map_err(RestoreFailure::Usage)?.open_to_read().await?)
}
