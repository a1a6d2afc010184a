//! JSON: one object per resource, keys sorted, indented by four spaces.

use backstay_daemon::terminal;
use backstay_protocol::resource::Resource;
use serde::Serialize;
use serde_json::{Map, Value};

/// A resource as JSON, keys in the order of the protocol.
pub fn value(resource: &Resource) -> Value {
    // Its keys are text and its numbers are JSON's: nothing in it can be refused.
    serde_json::to_value(resource).expect("a resource is plain data")
}

pub fn render(resource: &Resource) -> String {
    pretty(&value(resource))
}

/// Any value.
pub fn pretty(value: &Value) -> String {
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
    sorted(value).serialize(&mut serializer).expect("writing to memory succeeds");
    escaped(&String::from_utf8(out).expect("JSON is UTF-8")) + "\n"
}

/// Several values, one after the other: the shape of `-o json` everywhere, which `jq` and other readers accept.
pub fn stream<'a>(values: impl IntoIterator<Item = &'a Value>) -> String {
    values.into_iter().map(pretty).collect()
}

/// On one line, keys sorted: `{"nanos":0,"seconds":1702166400}`.
pub fn compact(value: &Value) -> String {
    escaped(&sorted(value).to_string())
}

/// JSON does not escape all characters that control a terminal, so these are escaped, too.
fn escaped(json: &str) -> String {
    let is_bad = |c: char| terminal::is_command(c) && c != '\n';
    if !json.contains(is_bad) {
        return json.to_owned();
    }
    json.chars().map(|c| if is_bad(c) { format!("\\u{:04x}", c as u32) } else { c.to_string() }).collect()
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        Value::Object(fields) => {
            let mut entries: Vec<_> = fields.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            Value::Object(entries.into_iter().map(|(k, v)| (k.clone(), sorted(v))).collect::<Map<_, _>>())
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_commands_a_terminal_is_escaped_and_reads_back() {
        let hostile = "\u{1b}[2J\n\u{9b}31m\u{7f}\u{202e}x\u{feff}\u{2066}\t";
        let value = serde_json::json!({ hostile: [hostile] });
        for text in [pretty(&value), compact(&value)] {
            assert!(!text.chars().any(|c| terminal::is_command(c) && c != '\n'), "{text:?}");
            assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), value);
        }
    }
    use backstay_protocol::spec::ManualBackupSpec;
    use backstay_protocol::time::Timestamp;

    #[test]
    fn keys_are_sorted_at_every_depth() {
        let spec = ManualBackupSpec { backupat: Some(Timestamp::from_seconds(7)) };
        let text = render(&Resource::of("c", &spec));
        let expected = r#"{
    "metadata": {
        "id": "c",
        "namespace": "ephemeral",
        "owner": "",
        "phase": "running",
        "type": "EtcdManualBackups.omni.sidero.dev",
        "version": "undefined"
    },
    "spec": {
        "backupat": {
            "nanos": 0,
            "seconds": 7
        }
    }
}
"#;
        assert_eq!(text, expected);
    }
}
