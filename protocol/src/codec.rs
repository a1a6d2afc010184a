//! The encodings of the API: JSON (the default), MessagePack and protobuf, chosen by `Content-Type`.
//!
//! The protobuf form of a request or answer is a `google.protobuf.Value` with the structure of the JSON form, so every
//! protobuf library can read it without Backstay's `.proto` file. Its numbers are doubles: whole numbers are exact up
//! to 2^53.
//!
//! ```
//! use backstay_protocol::api::GetRequest;
//! use backstay_protocol::codec::{CodecError, ContentType};
//!
//! let request = GetRequest { id: "talos-default".into(), ..GetRequest::default() };
//! for content_type in ContentType::ALL {
//!     let body = content_type.encode(&request)?;
//!     assert_eq!(content_type.decode_request::<GetRequest>(&body)?, request);
//! }
//! let misspelt = ContentType::Json.decode_request::<GetRequest>(br#"{"idd": "x"}"#);
//! assert!(matches!(misspelt, Err(CodecError::UnknownField(_))));
//! # Ok::<(), CodecError>(())
//! ```

use prost::Message;
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value as ProtoValue};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Number, Value};

use crate::api::Request;
use crate::validate::{self, UnknownField};

/// The header that names the encoding of a request; the answer has the same encoding.
pub const CONTENT_TYPE: &str = "Content-Type";

/// Bodies larger than this many bytes are refused. Half of what nats-server lets through by default (1 MiB).
pub const REQUEST_MAX: usize = 512 * 1024;

/// How deep objects and lists may be nested in a protobuf body; serde_json and rmp-serde have limits of their own.
const DEPTH_MAX: usize = 64;

/// An encoding of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ContentType {
    /// `application/json`.
    #[default]
    Json,
    /// `application/msgpack`: maps with the names of the fields.
    MessagePack,
    /// `application/protobuf`: a `google.protobuf.Value`.
    Protobuf,
}

/// Why a body was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The header names no encoding of the API; holds the first 80 characters of it.
    #[error("unknown Content-Type {0:?}: use application/json, application/msgpack or application/protobuf")]
    UnknownType(String),
    /// The body does not have its encoding, or not the fields of the type: the encoding, and why.
    #[error("malformed {0} body: {1}")]
    Malformed(&'static str, String),
    /// The body has more than [`REQUEST_MAX`] bytes; holds how many.
    #[error("the body is too large: {0} bytes, and at most {REQUEST_MAX} are allowed")]
    TooLarge(usize),
    /// A request has a field that there is not.
    #[error(transparent)]
    UnknownField(#[from] UnknownField),
}

impl ContentType {
    /// Every encoding.
    pub const ALL: [Self; 3] = [Self::Json, Self::MessagePack, Self::Protobuf];

    /// The value of the header.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::MessagePack => "application/msgpack",
            Self::Protobuf => "application/protobuf",
        }
    }

    /// From the header's value; an absent or empty one means JSON. Parameters after `;` are ignored.
    ///
    /// # Errors
    /// [`CodecError::UnknownType`].
    ///
    /// # Examples
    /// ```
    /// use backstay_protocol::codec::ContentType;
    ///
    /// assert_eq!(ContentType::from_header(None)?, ContentType::Json);
    /// assert_eq!(ContentType::from_header(Some("application/json; charset=utf-8"))?, ContentType::Json);
    /// assert!(ContentType::from_header(Some("text/xml")).is_err());
    /// # Ok::<(), backstay_protocol::codec::CodecError>(())
    /// ```
    pub fn from_header(value: Option<&str>) -> Result<Self, CodecError> {
        let value = value.unwrap_or_default();
        match value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
            "" | "application/json" => Ok(Self::Json),
            "application/msgpack" | "application/x-msgpack" | "application/vnd.msgpack" => Ok(Self::MessagePack),
            "application/protobuf" | "application/x-protobuf" => Ok(Self::Protobuf),
            _ => Err(CodecError::UnknownType(value.chars().take(80).collect())),
        }
    }

    /// The bytes of a body.
    ///
    /// # Errors
    /// [`CodecError::Malformed`] if the value does not fit the encoding, as a map whose keys are not texts.
    pub fn encode<T: Serialize>(self, value: &T) -> Result<Vec<u8>, CodecError> {
        let error = |e: &dyn std::fmt::Display| CodecError::Malformed(self.as_str(), e.to_string());
        match self {
            Self::Json => serde_json::to_vec(value).map_err(|e| error(&e)),
            Self::MessagePack => rmp_serde::to_vec_named(value).map_err(|e| error(&e)),
            Self::Protobuf => {
                let value = serde_json::to_value(value).map_err(|e| error(&e))?;
                Ok(to_proto(value).encode_to_vec())
            }
        }
    }

    /// Reads a request: a map that has only known fields. An empty body means the default request.
    ///
    /// # Errors
    /// As [`decode`](Self::decode), and [`CodecError::UnknownField`].
    pub fn decode_request<T: Request>(self, body: &[u8]) -> Result<T, CodecError> {
        if body.is_empty() {
            return Ok(T::default());
        }
        let malformed = |cause: &str| CodecError::Malformed(self.as_str(), cause.to_owned());
        let value: Value = self.decode(body)?;
        if !value.is_object() {
            return Err(malformed("a request must be a map of fields"));
        }
        validate::unknown_fields(&value, &T::every_field(), "")?;
        T::deserialize(value).map_err(|e| malformed(&e.to_string()))
    }

    /// Reads a body; an empty one means the default value of the type. Unknown fields are ignored.
    ///
    /// # Errors
    /// [`CodecError::TooLarge`], or [`CodecError::Malformed`].
    pub fn decode<T: DeserializeOwned + Default>(self, body: &[u8]) -> Result<T, CodecError> {
        if body.is_empty() {
            return Ok(T::default());
        }
        if body.len() > REQUEST_MAX {
            return Err(CodecError::TooLarge(body.len()));
        }
        let error = |e: &dyn std::fmt::Display| CodecError::Malformed(self.as_str(), e.to_string());
        match self {
            Self::Json => serde_json::from_slice(body).map_err(|e| error(&e)),
            Self::MessagePack => rmp_serde::from_slice(body).map_err(|e| error(&e)),
            Self::Protobuf => {
                let proto = ProtoValue::decode(body).map_err(|e| error(&e))?;
                let value = from_proto(proto, DEPTH_MAX).map_err(|e| error(&e))?;
                serde_json::from_value(value).map_err(|e| error(&e))
            }
        }
    }
}

fn to_proto(value: Value) -> ProtoValue {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(b) => Kind::BoolValue(b),
        Value::Number(n) => Kind::NumberValue(n.as_f64().unwrap_or(f64::NAN)),
        Value::String(s) => Kind::StringValue(s),
        Value::Array(items) => Kind::ListValue(ListValue { values: items.into_iter().map(to_proto).collect() }),
        Value::Object(map) => {
            Kind::StructValue(Struct { fields: map.into_iter().map(|(k, v)| (k, to_proto(v))).collect() })
        }
    };
    ProtoValue { kind: Some(kind) }
}

fn from_proto(value: ProtoValue, depth: usize) -> Result<Value, &'static str> {
    let depth = depth.checked_sub(1).ok_or("nested too deeply")?;
    Ok(match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(b)) => Value::Bool(b),
        Some(Kind::NumberValue(n)) => number(n)?,
        Some(Kind::StringValue(s)) => Value::String(s),
        Some(Kind::ListValue(list)) => {
            Value::Array(list.values.into_iter().map(|v| from_proto(v, depth)).collect::<Result<_, _>>()?)
        }
        Some(Kind::StructValue(object)) => {
            let fields = object.fields.into_iter().map(|(k, v)| Ok((k, from_proto(v, depth)?)));
            Value::Object(fields.collect::<Result<Map<_, _>, &'static str>>()?)
        }
    })
}

/// A double that is a whole number becomes that whole number.
fn number(n: f64) -> Result<Value, &'static str> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if n.fract() == 0.0 && n.abs() <= EXACT {
        return Ok(Value::Number(Number::from(n as i64)));
    }
    Number::from_f64(n).map(Value::Number).ok_or("not a finite number")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{ApplyRequest, GetRequest};
    use crate::resource::{Metadata, Resource, Version};
    use proptest::prelude::*;

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            (-9_007_199_254_740_992_i64..9_007_199_254_740_992).prop_map(Value::from),
            ".{0,12}".prop_map(Value::String),
        ];
        leaf.prop_recursive(4, 24, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
                prop::collection::btree_map("[a-z]{1,6}", inner, 0..6)
                    .prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn requests_round_trip_in_every_encoding(id in ".{0,20}", number in any::<u32>(), spec in values()) {
            let metadata = Metadata { id, version: Version::Number(number.into()), ..Metadata::default() };
            let request = ApplyRequest { resource: Resource { metadata, spec }, dry_run: true };
            for content_type in ContentType::ALL {
                let body = content_type.encode(&request)?;
                let back: ApplyRequest = content_type.decode(&body)?;
                prop_assert_eq!(&back, &request, "{:?}", content_type);
            }
        }

        #[test]
        fn foreign_bytes_are_a_request_or_an_error(body in prop::collection::vec(any::<u8>(), 0..200)) {
            for content_type in ContentType::ALL {
                let _ = content_type.decode::<ApplyRequest>(&body);
            }
        }
    }

    #[test]
    fn an_empty_request_means_the_defaults() {
        for content_type in ContentType::ALL {
            assert_eq!(content_type.decode::<GetRequest>(b"").expect("empty is fine"), GetRequest::default());
        }
    }

    #[test]
    fn deep_nesting_is_an_error_in_every_encoding() {
        let mut proto = ProtoValue { kind: Some(Kind::NullValue(0)) };
        for _ in 0..90 {
            proto = ProtoValue { kind: Some(Kind::ListValue(ListValue { values: vec![proto] })) };
        }
        assert!(ContentType::Protobuf.decode::<ApplyRequest>(&proto.encode_to_vec()).is_err());
        let json = "[".repeat(5000) + &"]".repeat(5000);
        assert!(ContentType::Json.decode::<ApplyRequest>(json.as_bytes()).is_err());
        let mut msgpack = vec![0x91; 5000];
        msgpack.push(0xC0);
        assert!(ContentType::MessagePack.decode::<ApplyRequest>(&msgpack).is_err());
    }

    #[test]
    fn a_request_is_a_map_of_known_fields_in_every_encoding() {
        let strict = |value: Value| {
            let read = ContentType::ALL.map(|content_type| {
                let body = content_type.encode(&value).expect("plain data");
                content_type.decode_request::<ApplyRequest>(&body).map_err(|e| e.to_string())
            });
            let [json, msgpack, protobuf] = read;
            assert!(json.is_ok() == msgpack.is_ok() && json.is_ok() == protobuf.is_ok(), "{msgpack:?} {protobuf:?}");
            json
        };
        let metadata = serde_json::json!({"type": "T", "id": "i", "labels": {"any": "thing"}, "finalizers": ["f"]});
        let whole = serde_json::json!({"resource": {"metadata": metadata, "spec": {"any": 1}}, "dry_run": true});
        assert!(strict(whole).is_ok_and(|request| request.dry_run));
        let misspelt = strict(serde_json::json!({"dryrun": true})).expect_err("misspelt");
        assert_eq!(misspelt, r#"unknown field "dryrun" (dryrun): did you mean "dry_run"?"#);
        let below = strict(serde_json::json!({"resource": {"metadata": {"idd": "x"}}})).expect_err("misspelt");
        assert!(below.contains("(resource.metadata.idd)"), "{below}");
        for no_map in [serde_json::json!([]), serde_json::json!([{}, true]), Value::Null, serde_json::json!("x")] {
            assert!(strict(no_map.clone()).is_err(), "{no_map}");
        }
    }

    #[test]
    fn headers_name_the_encoding() {
        assert_eq!(ContentType::from_header(None).ok(), Some(ContentType::Json));
        assert_eq!(ContentType::from_header(Some("application/JSON; charset=utf-8")).ok(), Some(ContentType::Json));
        assert!(ContentType::from_header(Some("text/xml")).is_err());
    }
}
