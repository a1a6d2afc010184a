//! YAML text as trees whose nodes remember their lines.
//!
//! Scalars keep their spelling until a [`shape::Shape`] says what they mean: `1.10` is a version where text is
//! expected, and a number elsewhere. Aliases are refused, and size and depth are limited, so a small file cannot become
//! a large tree.

pub mod scalar;
pub mod shape;

use std::collections::HashMap;

use granit_parser::{Event, Options, Parser, ScalarStyle, ScanError, Span, StrInput, Tag, options};

/// The largest text that is read, in bytes.
pub const TEXT_MAX: usize = 1024 * 1024;

/// How deep maps and lists may be nested.
pub const DEPTH_MAX: usize = 64;

/// What is wrong with a text, and in which line (counted from 1).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {text}")]
pub struct Problem {
    pub line: usize,
    pub text: String,
}

impl Problem {
    pub fn new(line: usize, text: impl Into<String>) -> Self {
        Self { line, text: text.into() }
    }
}

/// A node of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The line in which it begins, counted from 1.
    pub line: usize,
    pub kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// `plain`: unquoted, so that it may be something else than text.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One `key: value`, in the order of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub key: String,
    pub line: usize,
    pub value: Node,
}

impl Node {
    /// The value under `key` of a map.
    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.kind {
            Kind::Map(entries) => entries.iter().find(|e| e.key == key).map(|e| &e.value),
            _ => None,
        }
    }

    /// The text of a scalar that is not empty.
    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar { text, .. } if !self.is_null() => Some(text),
            _ => None,
        }
    }

    pub fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar { text, plain: true } if scalar::is_null(text))
    }
}

/// The documents of `text`; empty ones are left out.
///
/// # Errors
/// It is too large or not YAML, or uses a feature of YAML that is not supported; with the line.
pub fn documents(text: &str) -> Result<Vec<Node>, Problem> {
    if text.len() > TEXT_MAX {
        return Err(Problem::new(1, format!("larger than {TEXT_MAX} bytes, the most that is allowed")));
    }
    let mut builder = Builder { events: Parser::new_from_str_with_options(text, limits()) };
    let mut found = Vec::new();
    while let Some((event, span)) = builder.next()? {
        match event {
            Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {}
            Event::StreamEnd => break,
            first => found.push(builder.node(first, span, 0)?),
        }
    }
    found.retain(|document| !document.is_null());
    Ok(found)
}

fn limits() -> Options {
    // Ours is the bound that speaks; the parser's own stands behind it.
    let mut limits =
        options! { flow_nesting_limit: DEPTH_MAX + 2, block_nesting_limit: DEPTH_MAX + 2, strict_indentation: false };
    limits.set_emit_comments(false);
    limits
}

struct Builder<'t> {
    events: Parser<'t, StrInput<'t>>,
}

impl<'t> Builder<'t> {
    fn next(&mut self) -> Result<Option<(Event<'t>, Span)>, Problem> {
        self.events.next_event().transpose().map_err(|e| malformed(&e))
    }

    fn node(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<Node, Problem> {
        let line = span.start.line();
        if depth > DEPTH_MAX {
            return Err(Problem::new(line, format!("nested more than {DEPTH_MAX} levels deep")));
        }
        let kind = match event {
            Event::Scalar(text, style, _, tag) => {
                let plain = style == ScalarStyle::Plain && !says_text(tag.as_deref(), line)?;
                Kind::Scalar { text: text.into_owned(), plain }
            }
            Event::SequenceStart(_, _, tag) => {
                says_text(tag.as_deref(), line)?;
                Kind::List(self.list(depth)?)
            }
            Event::MappingStart(_, _, tag) => {
                says_text(tag.as_deref(), line)?;
                Kind::Map(self.map(depth)?)
            }
            Event::Alias(_) => {
                return Err(Problem::new(line, "aliases (*name) are not supported: write the value out"));
            }
            other => return Err(Problem::new(line, format!("unexpected {other:?}"))),
        };
        Ok(Node { line, kind })
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, Problem> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                Some((Event::SequenceEnd, _)) | None => return Ok(items),
                Some((event, span)) => items.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Vec<Entry>, Problem> {
        let mut entries = Vec::new();
        let mut seen: HashMap<String, usize> = HashMap::new();
        loop {
            let (event, span) = match self.next()? {
                Some((Event::MappingEnd, _)) | None => return Ok(entries),
                Some(next) => next,
            };
            let line = span.start.line();
            let Event::Scalar(key, ..) = event else {
                return Err(Problem::new(line, "a key must be a string"));
            };
            let key = key.into_owned();
            if let Some(first) = seen.insert(key.clone(), line) {
                return Err(Problem::new(line, format!("{key:?} is given twice; the first is on line {first}")));
            }
            let Some((event, span)) = self.next()? else {
                return Err(Problem::new(line, format!("{key:?} has no value")));
            };
            let value = self.node(event, span, depth + 1)?;
            entries.push(Entry { key, line, value });
        }
    }
}

/// Whether a tag makes its node text. The tags of YAML's core schema are accepted; any other is refused.
fn says_text(tag: Option<&Tag>, line: usize) -> Result<bool, Problem> {
    match tag {
        None => Ok(false),
        Some(tag) if tag.core_suffix() == Some("str") => Ok(true),
        Some(tag) if tag.core_suffix().is_some() => Ok(false),
        Some(tag) => Err(Problem::new(line, format!("the tag {} is not supported", tag.original()))),
    }
}

fn malformed(error: &ScanError) -> Problem {
    Problem::new(error.marker().line(), format!("invalid YAML: {}", error.info().replace('\n', " ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn problem(text: &str) -> String {
        documents(text).expect_err(text).to_string()
    }

    #[test]
    fn empty_documents_are_left_out() {
        for text in ["", "---\n", "# nothing\n", "---\n---\n# x\n---\n", "---\n...\n", "~\n"] {
            assert_eq!(documents(text), Ok(vec![]), "{text:?}");
        }
        let found = documents("---\na: 1\n---\n---\nb: 2\n---\n").expect("two documents");
        assert_eq!(found.iter().map(|d| d.line).collect::<Vec<_>>(), [2, 5]);
    }

    #[test]
    fn lines_and_spellings_are_kept() {
        let found = documents("a:\n  b: 1.10\n  c: \"1.10\"\n  d: [x, !!str 7]\n").expect("a document");
        let a = found[0].get("a").expect("a");
        assert_eq!(a.get("b"), Some(&Node { line: 2, kind: Kind::Scalar { text: "1.10".into(), plain: true } }));
        assert_eq!(a.get("c"), Some(&Node { line: 3, kind: Kind::Scalar { text: "1.10".into(), plain: false } }));
        let Some(Kind::List(items)) = a.get("d").map(|d| &d.kind) else { panic!("a list") };
        assert_eq!(items[1].kind, Kind::Scalar { text: "7".into(), plain: false });
    }

    #[test]
    fn what_is_refused_names_its_line() {
        assert_eq!(problem("a: 1\nb: 2\na: 3\n"), r#"line 3: "a" is given twice; the first is on line 1"#);
        assert_eq!(problem("a: &x 1\nb: *x\n"), "line 2: aliases (*name) are not supported: write the value out");
        assert_eq!(problem("a: 1\n[b]: 2\n"), "line 2: a key must be a string");
        assert_eq!(problem("a: !secret x\n"), "line 1: the tag !secret is not supported");
        assert!(problem("a: 1\n b: 2\n").starts_with("line 2: invalid YAML: "), "{}", problem("a: 1\n b: 2\n"));
        assert!(problem("a: [1\nb: 2\n").contains("invalid YAML"));
        assert!(problem(&format!("a: {}", "x".repeat(TEXT_MAX))).contains("1048576 bytes"));
    }

    #[test]
    fn depth_is_bounded_in_both_notations() {
        for text in [
            format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)),
            (0..DEPTH_MAX + 1).map(|n| format!("{}a:\n", " ".repeat(n))).collect(),
            "- ".repeat(1000),
        ] {
            assert!(documents(&text).is_err());
        }
        assert!(documents(&format!("{}{}", "[".repeat(DEPTH_MAX), "]".repeat(DEPTH_MAX))).is_ok());
    }

    proptest! {
        #[test]
        fn any_text_is_documents_or_a_problem(text in r#"[a-c:\-\[\]{}&*!|>'"%@`#?, \n\t0-9.~]{0,80}"#) {
            let _ = documents(&text);
        }
    }
}
