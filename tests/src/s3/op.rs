//! Which S3 operation an HTTP request is, and on what.

use hyper::{Method, Uri};

/// The operations that faults and counts tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    PutObject,
    GetObject,
    HeadObject,
    DeleteObject,
    DeleteObjects,
    /// Both versions.
    ListObjects,
    HeadBucket,
    CreateMultipartUpload,
    UploadPart,
    CompleteMultipartUpload,
    AbortMultipartUpload,
    ListMultipartUploads,
    ListParts,
    Other,
}

/// One request, as far as its head tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub op: Op,
    /// The key, decoded; empty for a request on the bucket.
    pub key: String,
    /// The part's number, of an UploadPart.
    pub part: Option<u32>,
}

impl Call {
    /// Reads path-style requests: `/BUCKET` and `/BUCKET/KEY`.
    pub fn of(method: &Method, uri: &Uri) -> Self {
        let path = uri.path().trim_start_matches('/');
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        let query = |name: &str| parameter(uri.query().unwrap_or_default(), name);
        let part = query("partNumber").and_then(|n| n.parse().ok());
        let upload = query("uploadId").is_some();
        let op = match (method.as_str(), key.is_empty()) {
            ("GET", true) if query("uploads").is_some() => Op::ListMultipartUploads,
            ("GET", true) if !bucket.is_empty() && query("location").is_none() => Op::ListObjects,
            ("HEAD", true) => Op::HeadBucket,
            ("POST", true) if query("delete").is_some() => Op::DeleteObjects,
            ("PUT", false) if upload && part.is_some() => Op::UploadPart,
            ("PUT", false) => Op::PutObject,
            ("GET", false) if upload => Op::ListParts,
            ("GET", false) => Op::GetObject,
            ("HEAD", false) => Op::HeadObject,
            ("POST", false) if query("uploads").is_some() => Op::CreateMultipartUpload,
            ("POST", false) if upload => Op::CompleteMultipartUpload,
            ("DELETE", false) if upload => Op::AbortMultipartUpload,
            ("DELETE", false) => Op::DeleteObject,
            _ => Op::Other,
        };
        Self { op, key: decode(key), part }
    }
}

/// The value of a query parameter; empty where it stands without one.
fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, ""))).find(|(n, _)| *n == name).map(|(_, v)| v)
}

/// Percent-decoding; what is no escape stays as it is.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = text.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        match escape.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart() {
        let cases = [
            ("PUT", "/b/a/k?x-id=UploadPart&partNumber=3&uploadId=u", Op::UploadPart),
            ("PUT", "/b/a/k?x-id=PutObject", Op::PutObject),
            ("POST", "/b/k?uploads", Op::CreateMultipartUpload),
            ("POST", "/b/k?uploads=", Op::CreateMultipartUpload),
            ("POST", "/b/k?uploadId=u", Op::CompleteMultipartUpload),
            ("DELETE", "/b/k?uploadId=u&x-id=AbortMultipartUpload", Op::AbortMultipartUpload),
            ("DELETE", "/b/k?x-id=DeleteObject", Op::DeleteObject),
            ("GET", "/b/?list-type=2&prefix=a%2F", Op::ListObjects),
            ("GET", "/b?list-type=2", Op::ListObjects),
            ("GET", "/b?uploads&prefix=x", Op::ListMultipartUploads),
            ("GET", "/b/k", Op::GetObject),
            ("GET", "/b/k?uploadId=u", Op::ListParts),
            ("HEAD", "/b/k", Op::HeadObject),
            ("HEAD", "/b", Op::HeadBucket),
            ("GET", "/", Op::Other),
        ];
        for (method, uri, op) in cases {
            let call = Call::of(&method.parse().expect("a method"), &uri.parse().expect("a URI"));
            assert_eq!(call.op, op, "{method} {uri}");
        }
    }

    #[test]
    fn key_and_part_are_read() {
        let uri = "/bucket/a%20b/c%2Bd?partNumber=12&uploadId=u".parse().expect("a URI");
        let call = Call::of(&Method::PUT, &uri);
        assert_eq!((call.key.as_str(), call.part), ("a b/c+d", Some(12)));
    }
}
