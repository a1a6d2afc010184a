//! Names as listings carry them: as they are, or in their URL form where the client asked for that, as AWS does.

use s3s::dto::{EncodingType, ListObjectsV2Output};

/// Brings the names of a page into the form that was asked for. The token for the next one holds none as it is.
pub(super) fn encode(page: &mut ListObjectsV2Output, encoding: Option<&EncodingType>) {
    page.continuation_token = None;
    let next = page.next_continuation_token.take();
    page.next_continuation_token = next.map(|name| name.bytes().map(|byte| format!("{byte:02x}")).collect());
    for object in page.contents.iter_mut().flatten() {
        object.key = object.key.as_deref().map(|key| listed(key, encoding));
    }
    for folder in page.common_prefixes.iter_mut().flatten() {
        folder.prefix = folder.prefix.as_deref().map(|prefix| listed(prefix, encoding));
    }
}

/// One name.
pub(super) fn listed(name: &str, encoding: Option<&EncodingType>) -> String {
    if encoding.is_none() {
        return name.to_owned();
    }
    let form = |byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'/' | b'*' => char::from(byte).to_string(),
        b' ' => "+".to_owned(),
        byte => format!("%{byte:02X}"),
    };
    name.bytes().map(form).collect()
}

/// The name that a token stands for; what is no token of this server stands for itself.
pub(super) fn of_token(token: &str) -> String {
    let byte = |at| token.get(at..at + 2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
    let bytes: Option<Vec<u8>> = (0..token.len()).step_by(2).map(byte).collect();
    bytes.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_else(|| token.to_owned())
}
