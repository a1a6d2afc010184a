//! What others say, fit for a line of ours.

/// The longest cause that is passed on, in characters.
const CAUSE_MAX: usize = 400;

/// In one line, and no longer than people read.
pub(super) fn one_line(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(CAUSE_MAX).collect();
    text.trim().to_owned()
}
