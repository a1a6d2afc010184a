//! Finds out what exists under a name. HEAD tells it. If HEAD tells too little (no length, or "forbidden"), a part of
//! the object or a listing tells the rest. Unknown is never treated as 0 or as nothing.

use std::str::FromStr;

use aws_sdk_s3::types::EncodingType;
use backstay_protocol::AttemptId;

use super::bucket::{Bucket, OWNER, length, timestamp};
use super::errors::RequestFailure;
use super::listing;
use crate::store::{ErrorKind, Key, ObjectInfo, StoreError};

/// The answer to HEAD, before it is interpreted.
pub(super) struct Head {
    pub(super) info: ObjectInfo,
    /// Whether HEAD itself stated the object's length.
    pub(super) with_length: bool,
    /// Whether it may not be deleted for now, although nobody requested that.
    pub(super) locked: bool,
}

impl Bucket {
    pub(super) async fn head(&self, key: &Key, full: &str) -> Result<Option<ObjectInfo>, StoreError> {
        match self.ask_head(key, full).await? {
            Ok(found) => Ok(found.map(|head| head.info)),
            Err(failure) if failure.kind == ErrorKind::Denied => self.look_behind(failure, key, full).await,
            Err(failure) => Err(failure.at("look up", self.target(full))),
        }
    }

    /// Asks HEAD alone, and otherwise only for the length, if HEAD does not state it.
    pub(super) async fn ask_head(
        &self,
        key: &Key,
        full: &str,
    ) -> Result<Result<Option<Head>, RequestFailure>, StoreError> {
        let answer = self.client().head_object().bucket(&self.name).key(full).send().await;
        let found = match answer.map_err(|error| RequestFailure::of(&error)) {
            Ok(found) => found,
            Err(failure) if failure.kind == ErrorKind::NotFound => return Ok(Ok(None)),
            Err(failure) => return Ok(Err(failure)),
        };
        let said = length(found.content_length());
        let size = match said {
            Some(size) => size,
            None => match self.size_of(full).await? {
                Some(size) => size,
                // Removed meanwhile.
                None => return Ok(Ok(None)),
            },
        };
        let info = ObjectInfo {
            key: key.clone(),
            size,
            modified: found.last_modified().map(timestamp),
            owner: found.metadata().and_then(|all| all.get(OWNER)).and_then(|id| AttemptId::from_str(id).ok()),
        };
        let locked = found.object_lock_mode().is_some();
        Ok(Ok(Some(Head { info, with_length: said.is_some(), locked })))
    }

    /// An object's length, from its first byte or from the listing; `None` if it does not exist.
    pub(super) async fn size_of(&self, full: &str) -> Result<Option<u64>, StoreError> {
        let request = self.client().get_object().bucket(&self.name).key(full).range("bytes=0-0");
        match request.send().await.map_err(|error| RequestFailure::of(&error)) {
            Ok(part) => {
                if let Some(total) = part.content_range().and_then(total) {
                    return Ok(Some(total));
                }
            }
            Err(failure) if failure.kind == ErrorKind::NotFound => return Ok(None),
            // An empty object has no first byte, and a listing may show what a policy denies.
            Err(failure) if matches!(failure.kind, ErrorKind::Invalid | ErrorKind::Denied) => {}
            Err(failure) => return Err(failure.at("look up", self.target(full))),
        }
        let listed = self.listed(full).await.map_err(|failure| failure.at("list objects in", self.whole()))?;
        match listed {
            None => Ok(None),
            Some((Some(size), _)) => Ok(Some(size)),
            Some((None, _)) => {
                let cause = "its size cannot be determined: neither HEAD nor a range request nor the listing gives it";
                Err(StoreError::new(ErrorKind::Invalid, "look up", self.target(full), cause))
            }
        }
    }

    /// Some providers answer "forbidden" for objects that do not exist, and a policy does so for one object. The
    /// listing tells which. If listing is forbidden, too, what the probe found out about this provider counts.
    async fn look_behind(
        &self,
        failure: RequestFailure,
        key: &Key,
        full: &str,
    ) -> Result<Option<ObjectInfo>, StoreError> {
        match self.listed(full).await {
            Ok(None) => Ok(None),
            Ok(Some((Some(size), modified))) => Ok(Some(ObjectInfo { key: key.clone(), size, modified, owner: None })),
            Err(list) if list.kind == ErrorKind::Denied && self.ways.in_use().absent_is_denied => Ok(None),
            Err(list) if list.kind != ErrorKind::Denied => Err(list.at("list objects in", self.whole())),
            Ok(Some((None, _))) | Err(_) => Err(failure.at("look up", self.target(full))),
        }
    }

    /// Size and time of an object, as the listing shows it.
    async fn listed(
        &self,
        full: &str,
    ) -> Result<Option<(Option<u64>, Option<backstay_protocol::Timestamp>)>, RequestFailure> {
        let request = self.client().list_objects_v2().bucket(&self.name).prefix(full).max_keys(1);
        let page = request.encoding_type(EncodingType::Url).send().await.map_err(|error| RequestFailure::of(&error))?;
        let Some(first) = page.contents().first() else { return Ok(None) };
        let name = first.key().unwrap_or_default();
        let is_it = name == full || listing::decode(name, page.encoding_type()).is_some_and(|name| name == full);
        Ok(is_it.then(|| (length(first.size()), first.last_modified().map(timestamp))))
    }
}

/// The total length in `bytes 0-0/123`.
fn total(range: &str) -> Option<u64> {
    range.rsplit_once('/')?.1.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::total;

    #[test]
    fn the_whole_stands_behind_the_slash() {
        assert_eq!(total("bytes 0-0/123"), Some(123));
        for unknown in ["bytes 0-0/*", "bytes 0-0", "", "bytes 0-0/-1"] {
            assert_eq!(total(unknown), None, "{unknown}");
        }
    }
}
