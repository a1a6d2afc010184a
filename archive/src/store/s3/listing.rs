//! Decodes names in listings. XML 1.0 cannot represent every byte that a key may have, and one such key would make
//! the whole page unreadable. So names are requested in URL encoding, and decoded here.

use std::borrow::Cow;

use aws_sdk_s3::types::EncodingType;

/// Decodes the name; `None` if it is not text. A server that does not encode names states no encoding.
pub(super) fn decode<'a>(name: &'a str, encoding: Option<&EncodingType>) -> Option<Cow<'a, str>> {
    if encoding != Some(&EncodingType::Url) || !name.contains(['%', '+']) {
        return Some(Cow::Borrowed(name));
    }
    let bytes = name.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let escaped = (byte == b'%').then(|| bytes.get(at + 1..at + 3)).flatten().and_then(hex);
        decoded.push(match (escaped, byte) {
            (Some(escaped), _) => escaped,
            // As in forms; a plus sign itself is always encoded.
            (None, b'+') => b' ',
            (None, byte) => byte,
        });
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

fn hex(digits: &[u8]) -> Option<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let [high, low] = digits else { return None };
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_decoded_where_they_are_encoded() {
        let url = Some(&EncodingType::Url);
        for (given, name) in [
            ("a/b", Some("a/b")),
            ("a%2Fb", Some("a/b")),
            ("a+b%2Bc", Some("a b+c")),
            ("%01%1f", Some("\u{1}\u{1f}")),
            ("100%", Some("100%")),
            ("%+1", Some("% 1")),
            ("%zz%é", Some("%zz%é")),
            ("%C3%A9", Some("é")),
            ("%FF", None),
        ] {
            assert_eq!(decode(given, url).as_deref(), name, "{given}");
            assert_eq!(decode(given, None).as_deref(), Some(given));
        }
    }
}
