//! A part's body on its way to the disk, digested and recorded.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use s3s::StdError;
use s3s::dto::StreamingBlob;
use s3s::stream::{ByteStream, RemainingLength};
use sha2::{Digest, Sha256};

use super::record::{PartRecord, Recorder};

/// Hands the body on, and tells the recorder of it when it ends or is given up.
pub(super) struct Hashing {
    body: StreamingBlob,
    digest: Sha256,
    recorder: Arc<Recorder>,
    record: PartRecord,
}

impl Hashing {
    pub fn new(body: StreamingBlob, recorder: Arc<Recorder>, upload: &str, key: &str, number: i32) -> Self {
        let (upload_id, key) = (upload.to_owned(), key.to_owned());
        let record = PartRecord { upload_id, key, number, bytes: 0, sha256: String::new(), whole: false };
        Self { body, digest: Sha256::new(), recorder, record }
    }
}

impl Stream for Hashing {
    type Item = Result<Bytes, StdError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = std::task::ready!(Pin::new(&mut self.body).poll_next(cx));
        match &next {
            Some(Ok(chunk)) => {
                self.digest.update(chunk);
                self.record.bytes += chunk.len() as u64;
            }
            Some(Err(_)) => {}
            None => self.record.whole = true,
        }
        Poll::Ready(next)
    }
}

impl ByteStream for Hashing {
    fn remaining_length(&self) -> RemainingLength {
        self.body.remaining_length()
    }
}

impl Drop for Hashing {
    fn drop(&mut self) {
        let digest = std::mem::take(&mut self.digest).finalize();
        let sha256 = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        self.recorder.add_part(PartRecord { sha256, ..self.record.clone() });
    }
}
