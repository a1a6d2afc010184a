//! Bytes as lower-case hexadecimal text, and back. A text that is not hexadecimal is an error, never empty bytes.

pub use hex::FromHexError as HexError;

/// Two lower-case digits for each byte.
///
/// # Examples
/// ```
/// use backstay_protocol::hex::{from_hex, to_hex};
///
/// assert_eq!(to_hex(&[0x0A, 0xFF]), "0aff");
/// assert_eq!(from_hex("0AFF"), Ok(vec![0x0A, 0xFF]));
/// assert!(from_hex("0").is_err());
/// ```
pub fn to_hex(bytes: &[u8]) -> String {
    hex::encode(bytes)
}

/// The bytes of a text of upper-case or lower-case digits; an empty text is no bytes.
///
/// # Errors
/// The text has an odd number of digits, or a character that is not a digit.
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
