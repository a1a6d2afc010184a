//! The two encodings of etcd's own files, byte for byte: protobuf with every field present, zeros included, and JSON
//! by the rules of Go's `encoding/json`.

use std::fmt::Write as _;

/// A protobuf message under construction. Fields must be added in the order of their numbers, as etcd's encoder does.
#[derive(Debug, Default, Clone)]
pub(super) struct Message(Vec<u8>);

impl Message {
    /// An integer field. etcd's signed fields are never negative here.
    pub(super) fn number(mut self, field: u8, value: u64) -> Self {
        self.0.push(field << 3);
        self.varint(value);
        self
    }

    /// A field with bytes, text or a message.
    pub(super) fn bytes(mut self, field: u8, value: &[u8]) -> Self {
        self.0.push(field << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    pub(super) fn done(self) -> Vec<u8> {
        self.0
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// A JSON string with its quotes, as Go writes it: `<`, `>`, `&` and line separators are escaped, too.
pub(super) fn json_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\x1f' => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A JSON list of strings.
pub(super) fn json_texts(texts: &[String]) -> String {
    let texts: Vec<String> = texts.iter().map(|text| json_text(text)).collect();
    format!("[{}]", texts.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_written_with_zeros_and_long_numbers() {
        assert_eq!(Message::default().number(1, 0).number(2, 1).done(), [0x08, 0, 0x10, 1]);
        assert_eq!(Message::default().number(3, 300).done(), [0x18, 0xac, 0x02]);
        let longest = Message::default().number(1, u64::MAX).done();
        assert_eq!(longest.len(), 11);
        assert_eq!(Message::default().bytes(4, b"ab").done(), [0x22, 2, b'a', b'b']);
    }

    #[test]
    fn text_is_escaped_as_go_does_it() {
        assert_eq!(json_text("http://a:1"), "\"http://a:1\"");
        assert_eq!(json_text("a\"b\\c\n<&>\u{1}\u{2028}é"), r#""a\"b\\c\n\u003c\u0026\u003e\u0001\u2028é""#);
        assert_eq!(json_texts(&["a".into(), "b".into()]), r#"["a","b"]"#);
    }
}
