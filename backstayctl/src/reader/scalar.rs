//! What an unquoted scalar means, by YAML's core schema.

use serde_json::{Number, Value};

/// A number that JSON cannot express, such as `.nan`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotFinite;

pub fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// The value of an unquoted scalar. Dates are text.
///
/// # Errors
/// It is infinite or not a number, which JSON cannot express.
pub fn resolve(text: &str) -> Result<Value, NotFinite> {
    match text {
        _ if is_null(text) => Ok(Value::Null),
        "true" | "True" | "TRUE" => Ok(Value::Bool(true)),
        "false" | "False" | "FALSE" => Ok(Value::Bool(false)),
        _ => match number(text) {
            Some(number) => number.map(Value::Number),
            None => Ok(Value::String(text.to_owned())),
        },
    }
}

/// `None` if the text is not a number at all.
fn number(text: &str) -> Option<Result<Number, NotFinite>> {
    if let Some(integer) = integer(text) {
        return Some(Ok(integer));
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return Some(Err(NotFinite));
    }
    if !is_decimal(unsigned) && !is_radix(unsigned) {
        return None;
    }
    // What is too large for an integer of 64 bits is held as nearly as JSON can.
    Some(text.parse::<f64>().ok().and_then(Number::from_f64).ok_or(NotFinite))
}

fn integer(text: &str) -> Option<Number> {
    if let Some(digits) = text.strip_prefix("0x").filter(|d| is_all(d, |b| b.is_ascii_hexdigit())) {
        return u64::from_str_radix(digits, 16).ok().map(Number::from);
    }
    if let Some(digits) = text.strip_prefix("0o").filter(|d| is_all(d, |b| matches!(b, b'0'..=b'7'))) {
        return u64::from_str_radix(digits, 8).ok().map(Number::from);
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    // `-0` is a float in JSON's eyes: as an integer it would lose its sign.
    if !is_all(unsigned, |b| b.is_ascii_digit()) {
        return None;
    }
    match text.starts_with('-') {
        true => text.parse::<i64>().ok().map(Number::from),
        false => unsigned.parse::<u64>().ok().map(Number::from),
    }
}

fn is_all(text: &str, wanted: impl Fn(u8) -> bool) -> bool {
    !text.is_empty() && text.bytes().all(wanted)
}

/// `0x…` or `0o…`, whatever its size.
fn is_radix(text: &str) -> bool {
    text.strip_prefix("0x").is_some_and(|d| is_all(d, |b| b.is_ascii_hexdigit()))
        || text.strip_prefix("0o").is_some_and(|d| is_all(d, |b| matches!(b, b'0'..=b'7')))
}

/// `12`, `1.`, `.5`, `1.5e-3`: digits with a dot and an exponent where wanted, without a sign.
fn is_decimal(text: &str) -> bool {
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    let exponent_holds =
        exponent.is_none_or(|e| is_all(e.strip_prefix(['+', '-']).unwrap_or(e), |b| b.is_ascii_digit()));
    digits(whole) && digits(fraction) && !(whole.is_empty() && fraction.is_empty()) && exponent_holds
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn scalars_resolve_as_the_core_schema_says() {
        for (text, value) in [
            ("", Value::Null),
            ("~", Value::Null),
            ("true", json!(true)),
            ("yes", json!("yes")),
            ("12", json!(12)),
            ("-7", json!(-7)),
            ("+7", json!(7)),
            ("0x1F", json!(31)),
            ("0o17", json!(15)),
            ("0123", json!(123)),
            ("1.5", json!(1.5)),
            (".5", json!(0.5)),
            ("1e3", json!(1000.0)),
            ("18446744073709551615", json!(u64::MAX)),
            ("1.28.2", json!("1.28.2")),
            ("v1.28.2", json!("v1.28.2")),
            ("2023-12-10", json!("2023-12-10")),
            ("1_000", json!("1_000")),
            ("-", json!("-")),
            (".", json!(".")),
            ("e3", json!("e3")),
            ("1e", json!("1e")),
            ("+", json!("+")),
        ] {
            assert_eq!(resolve(text), Ok(value), "{text:?}");
        }
        for text in [".nan", ".inf", "-.inf", "1e999", "0xFFFFFFFFFFFFFFFFF"] {
            assert_eq!(resolve(text), Err(NotFinite), "{text:?}");
        }
    }
}
