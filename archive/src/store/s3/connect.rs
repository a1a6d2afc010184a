//! Turns settings into a bucket that can be used.

use std::sync::Arc;

use super::bucket::Bucket;
use super::client::{Clients, configure, endpoint_of, load};
use super::login;
use super::patience::Patience;
use super::settings::{S3Settings, is_aws};
use super::ways::Ways;
use crate::store::StoreError;

/// Prepares a bucket's client; S3 is not contacted yet.
pub(super) async fn connect(settings: S3Settings, patience: Patience) -> Result<Bucket, StoreError> {
    settings.check_bucket()?;
    settings.check_objects()?;
    let prefix = settings.checked_prefix()?;
    let shared = load(&settings).await?;
    let endpoint = match endpoint_of(&settings, &shared) {
        Some(text) => Some(settings.checked_endpoint(&text)?),
        None => None,
    };
    let region = shared.region().map(AsRef::as_ref).unwrap_or_default();
    login::check("the region", region).map_err(|cause| settings.invalid(cause))?;
    let aws = endpoint.as_ref().is_none_or(is_aws);
    let ways = Ways::new(settings.addressing, settings.checksum, settings.absent_is_denied, aws);
    let clients = Clients::new(&configure(&shared, endpoint.as_ref(), &patience));
    let (name, objects) = (settings.bucket, settings.objects);
    Ok(Bucket { clients, ways: Arc::new(ways), name, prefix, endpoint, patience, objects })
}
