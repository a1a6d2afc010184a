//! Bytes as lower-case hexadecimal text, and back: what is no such text is an error, never empty bytes.

pub use hex::FromHexError as HexError;

/// Two digits for each byte.
pub fn to_hex(bytes: &[u8]) -> String {
    hex::encode(bytes)
}

/// The bytes of a text, in either case; an empty text has none.
///
/// # Errors
/// It is not hexadecimal.
pub fn from_hex(text: &str) -> Result<Vec<u8>, HexError> {
    hex::decode(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bytes_round_trip(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(from_hex(&to_hex(&bytes)), Ok(bytes));
        }

        #[test]
        fn any_text_is_bytes_or_an_error(text in "[0-9a-fA-F]{0,8}.{0,2}") {
            match from_hex(&text) {
                Ok(bytes) => prop_assert_eq!(to_hex(&bytes), text.to_lowercase()),
                Err(_) => prop_assert!(text.len() % 2 == 1 || text.contains(|c: char| !c.is_ascii_hexdigit())),
            }
        }
    }
}
