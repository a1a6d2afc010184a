//! Reads an object. If the connection breaks, reading continues at the missing byte.

use std::ops::Range;
use std::sync::Arc;

use aws_sdk_s3::primitives::ByteStream;
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt};

use super::bucket::Bucket;
use super::errors::RequestFailure;
use crate::store::{Body, ErrorKind, StoreError};

/// How often in a row a download may break off without having brought a byte.
const BREAKS: u32 = 5;

struct Reading {
    bucket: Arc<Bucket>,
    full: String,
    /// The object's tag: reading must continue with the same object.
    tag: Option<String>,
    /// Where reading ends: the object's length, unless a part of it is read.
    end: Option<u64>,
    offset: u64,
    breaks: u32,
    body: Option<ByteStream>,
}

/// Reads the object, or the bytes in `range`. Fails immediately if they do not exist.
pub(super) async fn open(bucket: Arc<Bucket>, full: String, range: Option<Range<u64>>) -> Result<Body, StoreError> {
    if range.as_ref().is_some_and(Range::is_empty) {
        let cause = "an empty range was requested";
        return Err(StoreError::new(ErrorKind::Invalid, "read a part of", bucket.target(&full), cause));
    }
    let mut reading = Reading { bucket, full, tag: None, end: None, offset: 0, breaks: 0, body: None };
    reading.begin(range).await?;
    let chunks = futures::stream::try_unfold(reading, |mut reading| async move {
        Ok(reading.next().await?.map(|chunk| (chunk, reading)))
    });
    Ok(chunks.boxed())
}

/// Reads a whole object of at most `limit` bytes; `TooLarge` if it has more.
pub(super) async fn collect(bucket: &Arc<Bucket>, full: &str, limit: usize) -> Result<Bytes, StoreError> {
    let mut body = open(bucket.clone(), full.to_owned(), None).await?;
    let mut whole = BytesMut::new();
    while let Some(chunk) = body.try_next().await? {
        if whole.len() + chunk.len() > limit {
            let cause = format!("it is larger than {limit} bytes, the most that is allowed here");
            return Err(StoreError::new(ErrorKind::TooLarge, "read", bucket.target(full), cause));
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole.freeze())
}

/// Whether a header such as `bytes 2-5/9` describes the part from `start` to `end`.
fn is_part(said: Option<&str>, start: u64, end: Option<u64>) -> bool {
    let part = said.and_then(|said| said.strip_prefix("bytes ")?.split_once('/')?.0.split_once('-'));
    let Some((first, last)) = part else { return false };
    first.parse() == Ok(start) && end.is_none_or(|end| last.parse::<u64>() == Ok(end - 1))
}

impl Reading {
    async fn begin(&mut self, range: Option<Range<u64>>) -> Result<(), StoreError> {
        let request = self.bucket.client().get_object().bucket(&self.bucket.name).key(&self.full);
        let header = range.as_ref().map(|range| format!("bytes={}-{}", range.start, range.end.saturating_sub(1)));
        let answer = request.set_range(header).send().await;
        let answer = answer.map_err(|error| RequestFailure::of(&error).at("read", self.target()))?;
        let length = answer.content_length().and_then(|length| u64::try_from(length).ok());
        match range {
            None => self.end = length,
            Some(range) => {
                let said = length.map(|length| length == range.end - range.start);
                if !said.unwrap_or_else(|| is_part(answer.content_range(), range.start, Some(range.end))) {
                    return Err(self.broken("read a part of", "S3 returned a different range"));
                }
                (self.offset, self.end) = (range.start, Some(range.end));
            }
        }
        self.tag = answer.e_tag;
        self.body = Some(answer.body);
        Ok(())
    }

    async fn go_on(&mut self) -> Result<(), StoreError> {
        let request = self.bucket.client().get_object().bucket(&self.bucket.name).key(&self.full);
        let until = self.end.map(|end| (end - 1).to_string()).unwrap_or_default();
        let request = request.range(format!("bytes={}-{until}", self.offset)).set_if_match(self.tag.clone());
        let answer = request.send().await.map_err(|error| {
            let failure = RequestFailure::of(&error);
            let changed = failure.kind == ErrorKind::AlreadyExists;
            let failure = if changed { failure.taken_as(ErrorKind::Invalid) } else { failure };
            failure.at("go on reading", self.target())
        })?;
        let rest = answer.content_length().and_then(|length| u64::try_from(length).ok());
        let expected = self.end.map(|end| end - self.offset);
        let right = match rest {
            Some(_) => rest == expected,
            // A proxy removed the length, but the answer still says which part it is.
            None => is_part(answer.content_range(), self.offset, self.end),
        };
        if !right || answer.e_tag != self.tag {
            return Err(self.broken("go on reading", "S3 did not continue where the download was interrupted"));
        }
        self.body = Some(answer.body);
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        loop {
            let Some(body) = &mut self.body else {
                self.go_on().await?;
                continue;
            };
            let cause = match body.next().await {
                Some(Ok(chunk)) => {
                    self.offset += chunk.len() as u64;
                    self.breaks = 0;
                    return self.within_length().map(|()| Some(chunk));
                }
                None if self.end.is_none_or(|end| end == self.offset) => return Ok(None),
                None => "it ended early".to_owned(),
                Some(Err(error)) => error.to_string(),
            };
            self.body = None;
            self.breaks += 1;
            // Without an end it is unknown how much is missing.
            if self.breaks > BREAKS || self.end.is_none() {
                return Err(StoreError::new(ErrorKind::Unavailable, "read", self.target(), cause));
            }
            tracing::debug!(
                object = self.target(),
                offset = self.offset,
                cause,
                "a download was interrupted; \
                continuing"
            );
            if self.end == Some(self.offset) {
                return Ok(None);
            }
        }
    }

    fn within_length(&self) -> Result<(), StoreError> {
        match self.end {
            Some(end) if self.offset > end => Err(self.broken("read", "it is larger than S3 said")),
            _ => Ok(()),
        }
    }

    fn broken(&self, action: &str, cause: &str) -> StoreError {
        StoreError::new(ErrorKind::Invalid, action, self.target(), cause)
    }

    fn target(&self) -> String {
        self.bucket.target(&self.full)
    }
}
