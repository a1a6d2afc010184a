//! Label selectors as in Kubernetes: `k`, `!k`, `k=v`, `k==v`, `k!=v`, `k in (a,b)`, `k notin (a,b)`; a comma means AND.
//!
//! ```
//! use backstay_protocol::selector::Selector;
//! use std::collections::BTreeMap;
//!
//! let selector: Selector = "omni.sidero.dev/cluster=talos-default,!old".parse()?;
//! let labels = BTreeMap::from([("omni.sidero.dev/cluster".to_owned(), "talos-default".to_owned())]);
//! assert!(selector.matches(&labels));
//! assert_eq!(selector.required_value("omni.sidero.dev/cluster"), Some("talos-default"));
//! # Ok::<(), backstay_protocol::selector::SelectorError>(())
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Terms that must all be true; without any, everything matches.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selector {
    /// In the order in which they were written.
    pub terms: Vec<Term>,
}

/// One condition on the label with the key that it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Term {
    /// There is such a label, with any value.
    Exists(String),
    /// There is no such label.
    Absent(String),
    /// The label has one of these values.
    In(String, Vec<String>),
    /// The label has none of these values. Also true if there is no such label, as in Kubernetes.
    NotIn(String, Vec<String>),
}

/// A text that is not a selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid selector {given:?}: {reason}")]
pub struct SelectorError {
    given: String,
    reason: String,
}

impl Selector {
    /// Whether a resource with these labels is selected.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.terms.iter().all(|term| term.matches(labels))
    }

    /// The only value that the label `key` may have; `None` if the selector allows several.
    pub fn required_value(&self, key: &str) -> Option<&str> {
        self.terms.iter().find_map(|term| match term {
            Term::In(k, values) if k == key && values.len() == 1 => values.first().map(String::as_str),
            _ => None,
        })
    }
}

impl Term {
    fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        match self {
            Self::Exists(k) => labels.contains_key(k),
            Self::Absent(k) => !labels.contains_key(k),
            Self::In(k, values) => labels.get(k).is_some_and(|v| values.contains(v)),
            Self::NotIn(k, values) => labels.get(k).is_none_or(|v| !values.contains(v)),
        }
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(s: &str) -> Result<Self, SelectorError> {
        let error = |reason: String| SelectorError { given: s.chars().take(200).collect(), reason };
        if s.trim().is_empty() {
            return Ok(Self::default());
        }
        let terms = split_terms(s).map_err(error)?;
        let terms = terms.into_iter().map(|t| term(t.trim())).collect::<Result<_, _>>().map_err(error)?;
        Ok(Self { terms })
    }
}

/// Splits at commas that are outside parentheses.
fn split_terms(s: &str) -> Result<Vec<&str>, String> {
    let (mut terms, mut start, mut inside) = (Vec::new(), 0, false);
    for (at, c) in s.char_indices() {
        match c {
            '(' if inside => return Err("parentheses must not be nested".into()),
            '(' => inside = true,
            ')' if !inside => return Err("')' without '('".into()),
            ')' => inside = false,
            ',' if !inside => {
                terms.push(&s[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    if inside {
        return Err("'(' without ')'".into());
    }
    terms.push(&s[start..]);
    Ok(terms)
}

fn term(s: &str) -> Result<Term, String> {
    if let Some(k) = s.strip_prefix('!').filter(|k| !k.contains('=')) {
        return Ok(Term::Absent(key(k)?));
    }
    if let Some((k, v)) = s.split_once("!=") {
        return Ok(Term::NotIn(key(k)?, vec![value(v)?]));
    }
    if let Some((k, v)) = s.split_once("==").or_else(|| s.split_once('=')) {
        return Ok(Term::In(key(k)?, vec![value(v)?]));
    }
    if let Some((head, list)) = s.split_once('(') {
        let list = list.strip_suffix(')').ok_or("text after ')'")?;
        let values = list.split(',').map(value).collect::<Result<Vec<_>, _>>()?;
        let (k, word) = head.trim().rsplit_once(char::is_whitespace).ok_or("expected: key in (a,b)")?;
        return match word {
            "in" => Ok(Term::In(key(k)?, values)),
            "notin" => Ok(Term::NotIn(key(k)?, values)),
            _ => Err(format!("unknown operator {word:?}")),
        };
    }
    Ok(Term::Exists(key(s)?))
}

fn key(s: &str) -> Result<String, String> {
    let s = s.trim();
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    if s.is_empty() || !s.chars().all(good) {
        return Err(format!("{s:?} is not a valid label key"));
    }
    Ok(s.to_owned())
}

fn value(s: &str) -> Result<String, String> {
    let s = s.trim();
    let s = s.strip_prefix('"').and_then(|s| s.strip_suffix('"')).unwrap_or(s);
    if s.contains(['=', '!', '(', ')', ',', '"']) || s.contains(char::is_whitespace) {
        return Err(format!("{s:?} is not a valid label value"));
    }
    Ok(s.to_owned())
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, term) in self.terms.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            match term {
                Term::Exists(k) => write!(f, "{k}")?,
                Term::Absent(k) => write!(f, "!{k}")?,
                Term::In(k, values) if values.len() == 1 => write!(f, "{k}={}", values[0])?,
                Term::NotIn(k, values) if values.len() == 1 => write!(f, "{k}!={}", values[0])?,
                Term::In(k, values) => write!(f, "{k} in ({})", values.join(","))?,
                Term::NotIn(k, values) => write!(f, "{k} notin ({})", values.join(","))?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels() -> BTreeMap<String, String> {
        [("app", "web"), ("omni.sidero.dev/cluster", "one")].map(|(k, v)| (k.to_owned(), v.to_owned())).into()
    }

    #[test]
    fn each_form_selects_as_kubernetes_does() {
        for (text, expected) in [
            ("app", true),
            ("!app", false),
            ("app=web", true),
            ("app==web", true),
            ("app!=web", false),
            ("none!=x", true),
            ("app in (web, db)", true),
            ("app notin (web)", false),
            ("app=web,omni.sidero.dev/cluster=two", false),
            ("", true),
        ] {
            assert_eq!(text.parse::<Selector>().expect(text).matches(&labels()), expected, "{text}");
        }
        for text in ["a in", "a in (b", "a)", ",", "a b", "a of (b)", "a=b c"] {
            assert!(text.parse::<Selector>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn selectors_round_trip(raw in prop::collection::vec(("[a-z./]{1,8}", prop::collection::vec("[a-z0-9]{1,5}", 1..4), 0..4), 1..5)) {
            let terms = raw.into_iter().map(|(k, v, kind)| match kind {
                0 => Term::Exists(k), 1 => Term::Absent(k), 2 => Term::In(k, v), _ => Term::NotIn(k, v),
            }).collect();
            let selector = Selector { terms };
            prop_assert_eq!(selector.to_string().parse::<Selector>()?, selector);
        }

        #[test]
        fn any_text_is_a_selector_or_an_error(text in ".{0,40}") {
            let _ = text.parse::<Selector>();
        }
    }
}
