//! The snapshot stream as it arrives: one call of `Maintenance.Snapshot`, with as few copies of its bytes as gRPC allows.
//!
//! etcd-client has this call, too, but copies each frame once more, which slows down a whole database.

use bytes::Bytes;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

const METHOD: &str = "/etcdserverpb.Maintenance/Snapshot";

/// The name of the metadata in which etcd expects the token of a user.
const TOKEN: &str = "token";

/// `etcdserverpb.SnapshotRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct SnapshotRequest {}

/// The part of `etcdserverpb.SnapshotResponse` that is read.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Frame {
    /// Bytes of the database that follow after this frame.
    #[prost(uint64, tag = "2")]
    pub remaining_bytes: u64,
    /// The next bytes: a piece of the buffer that was read.
    #[prost(bytes = "bytes", tag = "3")]
    pub blob: Bytes,
}

/// Opens the stream, as the user to whom `token` was given.
///
/// # Errors
/// The member refuses the call, or cannot be reached.
pub async fn open(channel: Channel, token: Option<&str>) -> Result<Streaming<Frame>, Status> {
    let mut request = Request::new(SnapshotRequest {});
    if let Some(token) = token {
        let mut value = AsciiMetadataValue::try_from(token)
            .map_err(|_| Status::unauthenticated("the authentication token from etcd cannot be used in a header"))?;
        value.set_sensitive(true);
        request.metadata_mut().insert(TOKEN, value);
    }
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.map_err(|e| Status::unavailable(e.to_string()))?;
    let codec = ProstCodec::<SnapshotRequest, Frame>::default();
    Ok(client.server_streaming(request, PathAndQuery::from_static(METHOD), codec).await?.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    #[test]
    fn a_frame_is_read_as_etcd_writes_it() {
        // header { cluster_id: 1 }, remaining_bytes: 300, blob: "ab", version: "3.6" (3.6 and later).
        let bytes = b"\x0a\x02\x08\x01\x10\xac\x02\x1a\x02ab\x22\x033.6";
        let frame = Frame::decode(&bytes[..]).expect("a frame");
        assert_eq!(frame, Frame { remaining_bytes: 300, blob: Bytes::from_static(b"ab") });
    }
}
