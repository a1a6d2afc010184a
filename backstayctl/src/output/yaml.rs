//! YAML of resources: indented by two spaces, metadata in a fixed order, empty metadata without a value, quotes only
//! where the text would otherwise be read as something else.

use backstay_daemon::terminal;
use backstay_protocol::resource::{Metadata, Resource};
use serde_json::Value;

use crate::reader::scalar;

const STEP: usize = 2;

/// The resources with `---` between them.
pub fn stream(resources: &[Resource]) -> String {
    resources.iter().map(resource).collect::<Vec<_>>().join("---\n")
}

pub fn resource(resource: &Resource) -> String {
    let mut out = String::from("metadata:\n");
    metadata(&mut out, &resource.metadata);
    entry(&mut out, 0, "spec", &resource.spec);
    out
}

/// Any value as a document of its own.
pub fn document(value: &Value) -> String {
    match leaf(value) {
        Some(text) => text + "\n",
        None => {
            let mut out = String::new();
            block(&mut out, 0, value);
            out
        }
    }
}

fn metadata(out: &mut String, metadata: &Metadata) {
    let version = metadata.version.to_string();
    let fields = [
        ("namespace", &metadata.namespace),
        ("type", &metadata.kind),
        ("id", &metadata.id),
        ("version", &version),
        ("owner", &metadata.owner),
        ("phase", &metadata.phase),
    ];
    for (key, value) in fields {
        // The version is a number or a bare word.
        let value = if key == "version" { value.clone() } else { bare(value) };
        line(out, STEP, &format!("{key}: {value}"));
    }
    for (key, time) in [("created", &metadata.created), ("updated", &metadata.updated)] {
        if let Some(time) = time {
            let plain = time.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b':' | b'.' | b'+'));
            line(out, STEP, &format!("{key}: {}", if plain { time.clone() } else { bare(time) }));
        }
    }
    for (key, map) in [("labels", &metadata.labels), ("annotations", &metadata.annotations)] {
        if !map.is_empty() {
            line(out, STEP, &format!("{key}:"));
            map.iter().for_each(|(k, v)| line(out, 2 * STEP, &format!("{}: {}", text(k), bare(v))));
        }
    }
    if !metadata.finalizers.is_empty() {
        line(out, STEP, "finalizers:");
        metadata.finalizers.iter().for_each(|f| line(out, 2 * STEP, &format!("- {}", text(f))));
    }
}

fn line(out: &mut String, indent: usize, text: &str) {
    out.extend(std::iter::repeat_n(' ', indent));
    out.push_str(text.trim_end_matches(' '));
    out.push('\n');
}

/// In metadata, an empty text is written as nothing.
fn bare(value: &str) -> String {
    if value.is_empty() { String::new() } else { text(value) }
}

fn entry(out: &mut String, indent: usize, key: &str, value: &Value) {
    let key = text(key);
    match leaf(value) {
        Some(leaf) => line(out, indent, &format!("{key}: {leaf}")),
        None => {
            line(out, indent, &format!("{key}:"));
            block(out, indent + STEP, value);
        }
    }
}

/// A value that fits on the line of its key.
fn leaf(value: &Value) -> Option<String> {
    match value {
        Value::String(value) => Some(text(value)),
        Value::Array(items) => items.is_empty().then(|| "[]".to_owned()),
        Value::Object(fields) => fields.is_empty().then(|| "{}".to_owned()),
        other => Some(other.to_string()),
    }
}

fn block(out: &mut String, indent: usize, value: &Value) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| list_item(out, indent, item)),
        Value::Object(fields) => fields.iter().for_each(|(key, value)| entry(out, indent, key, value)),
        _ => {}
    }
}

fn list_item(out: &mut String, indent: usize, item: &Value) {
    match leaf(item) {
        Some(leaf) => line(out, indent, &format!("- {leaf}")),
        None => {
            // The first line of what is inside stands behind the dash, in place of its indentation.
            let start = out.len();
            block(out, indent + STEP, item);
            out.replace_range(start + indent..start + indent + STEP, "- ");
        }
    }
}

/// A text as a scalar that reads back as this text.
fn text(value: &str) -> String {
    if value.chars().any(needs_escape) {
        return escaped(value);
    }
    if reads_as_something_else(value) {
        return format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""));
    }
    if is_plain(value) { value.to_owned() } else { format!("'{}'", value.replace('\'', "''")) }
}

/// Control characters, and those that change how a terminal shows the rest of the line.
fn needs_escape(c: char) -> bool {
    terminal::is_command(c) || matches!(c as u32 & 0xFFFE, 0xFFFE)
}

fn escaped(value: &str) -> String {
    let mut out = String::from("\"");
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if !needs_escape(c) => out.push(c),
            c if (c as u32) < 0x100 => out.push_str(&format!("\\x{:02X}", c as u32)),
            c if (c as u32) < 0x10000 => out.push_str(&format!("\\u{:04X}", c as u32)),
            c => out.push_str(&format!("\\U{:08X}", c as u32)),
        }
    }
    out.push('"');
    out
}

/// Numbers, booleans, null; and what readers of YAML 1.1 do not take for text: `yes`, dates, `1:30`, `1_000`.
fn reads_as_something_else(value: &str) -> bool {
    const WORDS: [&str; 8] = ["y", "n", "yes", "no", "on", "off", "=", "<<"];
    let numeric = value.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.'));
    let of = |extra: &[u8]| value.bytes().all(|b| b.is_ascii_digit() || extra.contains(&b));
    !matches!(scalar::resolve(value), Ok(Value::String(_)))
        || WORDS.iter().any(|word| value.eq_ignore_ascii_case(word))
        || (numeric && (of(b"+-._:") && value.contains(['_', ':']) || looks_like_a_date(value)))
        || value.trim_start_matches(['+', '-']).starts_with("0b") && of(b"+-b_")
        || value.trim_start_matches(['+', '-']).starts_with("0x")
            && value.bytes().all(|b| b.is_ascii_hexdigit() || b"+-x_".contains(&b))
}

/// `2023-12-10`, and whatever begins like this.
fn looks_like_a_date(value: &str) -> bool {
    let mut parts = value.splitn(3, '-');
    let digits = |part: Option<&str>, want: usize| {
        part.is_some_and(|p| p.len() <= want && !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))
    };
    digits(parts.next(), 4)
        && digits(parts.next(), 2)
        && parts.next().is_some_and(|p| p.starts_with(|c: char| c.is_ascii_digit()))
}

/// Whether the characters of the text allow leaving out the quotes.
fn is_plain(value: &str) -> bool {
    let mut characters = value.chars();
    let (first, second) = (characters.next(), characters.next());
    let first_holds = match first {
        Some('-' | '?' | ':') => second.is_some_and(|c| c != ' ' && !",[]{}".contains(c)),
        Some(c) => !",[]{}#&*!|>'\"%@` ".contains(c),
        None => false,
    };
    first_holds
        && !value.starts_with("---")
        && !value.starts_with("...")
        && !value.ends_with([' ', ':'])
        && !value.contains(": ")
        && !value.contains(" #")
}

#[cfg(test)]
#[path = "yaml_tests.rs"]
mod tests;
