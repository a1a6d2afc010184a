//! The last messages of an etcd that ended, taken from its log: few, short, and safe for a terminal. Pure.

use serde_json::{Map, Value};

/// No more lines than this are quoted, no line is longer, nor all of them together.
const LINES: usize = 4;
const LINE_CHARS: usize = 240;
const ALL_CHARS: usize = 560;

/// The lines at the end of a log that are worth quoting; empty if there are none. Lines about an error take precedence;
/// of a stack trace only its reason is quoted.
pub fn last_words(log: &str) -> String {
    let lines: Vec<Line> = log.lines().filter_map(line).collect();
    let of = |grave: bool| lines.iter().filter(move |line| line.grave || !grave).map(|line| line.text.as_str());
    let mut words: Vec<&str> = of(true).collect();
    if words.is_empty() {
        words = of(false).collect();
    }
    words.dedup();
    let mut taken: Vec<String> = Vec::new();
    let mut chars = 0;
    for word in words.into_iter().rev().take(LINES) {
        let word = shortened(word, LINE_CHARS);
        chars += word.chars().count();
        if !taken.is_empty() && chars > ALL_CHARS {
            break;
        }
        taken.insert(0, word);
    }
    taken.join(" / ")
}

struct Line {
    text: String,
    /// Whether it is about an error.
    grave: bool,
}

/// One line of a log as people read it; `None` if it is a piece of a stack trace, or nothing.
fn line(raw: &str) -> Option<Line> {
    let raw = container(raw);
    if raw.starts_with([' ', '\t']) || raw.starts_with("goroutine ") {
        return None;
    }
    let text = plain(raw);
    if text.is_empty() || is_frame(&text) {
        return None;
    }
    if let Ok(Value::Object(fields)) = serde_json::from_str(&text) {
        let level = field(&fields, "level");
        let reason = field(&fields, "error");
        let message = [field(&fields, "msg"), reason].into_iter().filter(|part| !part.is_empty());
        let message = plain(&message.collect::<Vec<_>>().join(": "));
        let grave = matches!(level.as_str(), "error" | "fatal" | "panic" | "dpanic");
        return Some(Line { text: message, grave }).filter(|line| !line.text.is_empty());
    }
    // zap's console form: time, level, place, message, separated by tabs; then what the old logger and Go write.
    let level = raw.split('\t').nth(1).unwrap_or_default().trim();
    let grave = matches!(level, "error" | "fatal" | "panic" | "dpanic")
        || [" C | ", " E | "].iter().any(|level| text.contains(level))
        || ["panic: ", "fatal error: ", "flag provided but not defined"].iter().any(|begin| text.starts_with(begin));
    Some(Line { text, grave })
}

fn field(fields: &Map<String, Value>, name: &str) -> String {
    fields.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// What a container runtime puts before each line: time, stream, and whether the line is whole.
fn container(line: &str) -> &str {
    let mut parts = line.splitn(4, ' ');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(time), Some("stdout" | "stderr"), Some("F" | "P"), Some(rest)) if time.contains('T') => rest,
        _ => line,
    }
}

/// A frame of a stack trace: a function of a package, with its arguments.
fn is_frame(text: &str) -> bool {
    let before = text.split('(').next().unwrap_or_default();
    text.ends_with(')') && !before.contains(' ') && (before.contains('/') || before.starts_with("main."))
}

/// Without anything that would control a terminal.
pub(super) fn plain(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn shortened(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_found_in_each_form_that_etcd_logs_in() {
        let json = r#"{"level":"info","ts":"2026-11-28T22:00:00Z","caller":"embed/etcd.go:1","msg":"starting an etcd server"}
{"level":"fatal","ts":"2026-11-28T22:00:01Z","caller":"etcdmain/etcd.go:204","msg":"discovery failed","error":"version \"3.7.0\" is not supported","stacktrace":"go.etcd.io/etcd/server/v3/etcdmain.startEtcdOrProxyV2\n\tgo.etcd.io/x.go:204\nmain.main"}"#;
        let pod: String = json.lines().map(|line| format!("2026-11-28T22:00:01.5Z stderr F {line}\n")).collect();
        let reason = "discovery failed: version \"3.7.0\" is not supported";
        assert_eq!(last_words(json), reason);
        assert_eq!(last_words(&pod), reason);
        let console = "2026-11-28T22:00:00.000Z\tinfo\tembed/etcd.go:1\tstarting\n2026-11-28T22:00:01.000Z\tfatal\tetcdmain/etcd.go:204\t\
                       discovery failed\t{\"error\": \"no such file\"}\ngo.etcd.io/etcd/etcdmain.start(0x1, 0x2)\n\t/x.go:1 +0x1\n";
        assert!(
            last_words(console).ends_with("discovery failed {\"error\": \"no such file\"}"),
            "{}",
            last_words(console)
        );
        let old = "2026-11-28 22:00:00.1 I | etcdmain: etcd Version: 3.4.23\n2026-11-28 22:00:01.1 C | etcdmain: member 1 has already been bootstrapped\n";
        assert!(
            last_words(old).ends_with("C | etcdmain: member 1 has already been bootstrapped"),
            "{}",
            last_words(old)
        );
        let panic = "panic: freepages: failed to get all reachable pages\n\ngoroutine 1 [running]:\ngo.etcd.io/bbolt.(*DB).open(0x1)\n\t/x.go:1\nmain.main()\n";
        assert_eq!(last_words(panic), "panic: freepages: failed to get all reachable pages");
        let flag = "flag provided but not defined: -bogus\nUsage:\n\n  etcd [OPTIONS]\n    Start an etcd server.\n";
        assert_eq!(last_words(flag), "flag provided but not defined: -bogus");
    }

    #[test]
    fn without_an_error_the_last_lines_are_quoted() {
        let log: String = (0..50).map(|n| format!("line {n}\n")).collect();
        assert_eq!(last_words(&log), "line 46 / line 47 / line 48 / line 49");
        assert_eq!(last_words("same\nsame\nsame\n"), "same");
        assert_eq!(last_words(" \n\t\n"), "");
    }

    #[test]
    fn what_is_quoted_is_short_and_does_nothing_to_a_terminal() {
        let bad = format!("panic: \u{1b}[31m\u{7}\u{9b}2J\r{}\n", "ä".repeat(10_000));
        let log = bad.repeat(3) + "panic: another\n" + &format!("panic: {}\n", "b".repeat(10_000)).repeat(2);
        let words = last_words(&log);
        assert!(!words.chars().any(char::is_control), "{words:?}");
        assert!(words.chars().count() <= ALL_CHARS + 2 * LINES + 4, "{}", words.len());
        assert!(words.contains("panic: another"), "{words}");
    }
}
