//! Shortens texts of others for use in errors.

/// The longest cause that is passed on, in characters.
const CAUSE_MAX: usize = 400;

/// The text in one line, and not too long to read.
pub(super) fn one_line(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(CAUSE_MAX).collect();
    text.trim().to_owned()
}
