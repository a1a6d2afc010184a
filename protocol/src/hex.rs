//! Bytes as lower-case hexadecimal text, and back.

/// Two digits for each byte.
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of a text; empty where it is not hexadecimal.
pub fn from_hex(text: &str) -> Vec<u8> {
    let nibble = |c: u8| (c as char).to_digit(16).map(|d| d as u8);
    let pair = |p: &[u8; 2]| Some(nibble(p[0])? << 4 | nibble(p[1])?);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return Vec::new();
    }
    pairs.iter().map(pair).collect::<Option<_>>().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bytes_round_trip(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(from_hex(&to_hex(&bytes)), bytes);
        }

        #[test]
        fn any_text_is_bytes_or_none(text in ".{0,20}") {
            let bytes = from_hex(&text);
            prop_assert!(bytes.is_empty() || to_hex(&bytes) == text.to_lowercase());
        }
    }
}
