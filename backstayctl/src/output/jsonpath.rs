//! The part of JSONPath that selects one field: `{.spec.error}`, `{.metadata.labels['a/b']}`, `{.items[0]}`.

use std::str::FromStr;

use serde_json::Value;

use super::json;

/// The path of one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonPath {
    steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

/// An expression that is not supported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "jsonpath {given:?} is not supported: {reason}; select one field, such as {{.spec.error}}, \
     {{.metadata.labels['key']}} or {{.metadata.finalizers[0]}}"
)]
pub struct PathError {
    given: String,
    reason: String,
}

/// A field that this resource does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("error finding result for jsonpath: {0} is not found")]
pub struct FieldMissing(String);

impl JsonPath {
    /// The value at this path: text as it is, anything else as JSON on one line.
    ///
    /// # Errors
    /// The first part of the path that does not exist.
    pub fn find(&self, root: &Value) -> Result<String, FieldMissing> {
        let mut value = root;
        for step in &self.steps {
            value = match step {
                Step::Key(key) => value.get(key).ok_or_else(|| FieldMissing(key.clone()))?,
                Step::Index(index) => value.get(index).ok_or_else(|| FieldMissing(format!("[{index}]")))?,
            };
        }
        Ok(match value {
            Value::String(text) => text.clone(),
            other => json::compact(other),
        })
    }
}

impl FromStr for JsonPath {
    type Err = PathError;

    fn from_str(given: &str) -> Result<Self, PathError> {
        let error = |reason: &str| PathError { given: given.to_owned(), reason: reason.to_owned() };
        let inner = given.trim().strip_prefix('{').and_then(|g| g.strip_suffix('}'));
        let mut rest = inner.ok_or_else(|| error("it must be enclosed in braces"))?.trim();
        rest = rest.strip_prefix('$').unwrap_or(rest);
        let mut steps = Vec::new();
        while !rest.is_empty() {
            let found = match rest.strip_prefix('.') {
                Some(tail) => key(tail),
                None => rest.strip_prefix('[').and_then(bracket),
            };
            let (step, tail) =
                found.ok_or_else(|| error(&format!("{rest:?} is neither .NAME nor ['NAME'] nor [NUMBER]")))?;
            steps.push(step);
            rest = tail;
        }
        if steps.is_empty() {
            return Err(error("it does not name a field"));
        }
        Ok(Self { steps })
    }
}

/// A name up to the next dot or bracket; after a backslash, these are part of the name.
fn key(text: &str) -> Option<(Step, &str)> {
    let mut name = String::new();
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '\\' => name.push(characters.next()?.1),
            '.' | '[' => return (!name.is_empty()).then_some((Step::Key(name), &text[at..])),
            c if c.is_alphanumeric() || matches!(c, '_' | '-' | '/') => name.push(c),
            _ => return None,
        }
    }
    (!name.is_empty()).then_some((Step::Key(name), ""))
}

/// The content of brackets: a number, or a name in quotes.
fn bracket(text: &str) -> Option<(Step, &str)> {
    if let Some(quote) = text.chars().next().filter(|c| matches!(c, '\'' | '"')) {
        let (name, tail) = text[1..].split_once(quote)?;
        return Some((Step::Key(name.to_owned()), tail.strip_prefix(']')?));
    }
    let (number, tail) = text.split_once(']')?;
    Some((Step::Index(number.parse().ok()?), tail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn find(path: &str) -> Result<String, String> {
        let root = json!({
            "metadata": {"labels": {"omni.sidero.dev/cluster": "c"}, "finalizers": ["a", "b"]},
            "spec": {"error": "", "status": 1, "lastbackuptime": {"seconds": 7, "nanos": 0}, "none": null},
        });
        path.parse::<JsonPath>().map_err(|e| e.to_string())?.find(&root).map_err(|e| e.to_string())
    }

    #[test]
    fn one_field_is_found() {
        for (path, found) in [
            ("{.spec.status}", "1"),
            ("{$.spec.error}", ""),
            ("{.spec.none}", "null"),
            ("{.spec.lastbackuptime}", r#"{"nanos":0,"seconds":7}"#),
            ("{.metadata.labels['omni.sidero.dev/cluster']}", "c"),
            (r"{.metadata.labels.omni\.sidero\.dev/cluster}", "c"),
            ("{.metadata.finalizers[1]}", "b"),
        ] {
            assert_eq!(find(path), Ok(found.to_owned()), "{path}");
        }
        assert_eq!(find("{.spec.foo}"), Err("error finding result for jsonpath: foo is not found".into()));
        assert_eq!(
            find("{.metadata.finalizers[7]}"),
            Err("error finding result for jsonpath: [7] is not found".into())
        );
    }

    #[test]
    fn the_rest_of_jsonpath_is_refused_by_name() {
        for path in [
            "",
            ".spec",
            "{}",
            "{.}",
            "{..x}",
            "{.a[*]}",
            "{.a[?(@.b)]}",
            "{.a[0:2]}",
            "{.a} {.b}",
            "{range .a}",
            "{é}",
        ] {
            let error = find(path).expect_err(path);
            assert!(error.starts_with("jsonpath ") && error.contains("{.spec.error}"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_path_or_an_error(text in r"\{?[.a\[\]'0\\é}]{0,20}\}?") {
            let _ = text.parse::<JsonPath>();
        }
    }
}
