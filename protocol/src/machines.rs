//! What a machine is called in texts for people: by the name of its etcd member and its host name, or by the first
//! characters of its UUID if neither is known. Pure.
//!
//! The names come from the agent and are not verified, so they are cut and control characters are replaced. No decision
//! depends on them.

use crate::limits;

/// How many characters of a UUID are shown if there is no name.
pub const SHORT_ID: usize = 8;
/// How many bytes of a name are shown. Linux allows no longer host name.
const NAME_MAX: usize = 64;
/// How many machines are named if several have the same cause.
const NAMED_MAX: usize = 5;

/// The first [`SHORT_ID`] characters of a UUID.
pub fn short(id: &str) -> &str {
    &id[..id.floor_char_boundary(SHORT_ID)]
}

/// The name to show. `id` is the machine's UUID; a name that is not known is empty.
///
/// # Examples
/// ```
/// use backstay_protocol::machines::called;
///
/// let id = "27c16241-96bf-4f17-9579-ea3a6c4a3ca8";
/// assert_eq!(called("m1", "cp-1", id), "m1 (cp-1)");
/// assert_eq!(called("cp-1", "cp-1", id), "cp-1");
/// assert_eq!(called("", "", id), "27c16241");
/// ```
pub fn called(member: &str, host: &str, id: &str) -> String {
    match (name(member).as_str(), name(host).as_str()) {
        ("", "") => short(id).to_owned(),
        ("", name) | (name, "") => name.to_owned(),
        (member, host) if member == host => member.to_owned(),
        (member, host) => format!("{member} ({host})"),
    }
}

/// A name that an agent claims, on one line.
fn name(told: &str) -> String {
    let shown = |c: char| match c {
        c if c.is_whitespace() => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    limits::cut(&told.trim().chars().map(shown).collect::<String>(), NAME_MAX)
}

/// Says a cause that several subjects share only once: `machine m1: CAUSE`, or `3 machines (m1, m2, m3): CAUSE`. The causes
/// keep the order in which they first occur. `noun` is the word for one subject.
///
/// # Examples
/// ```
/// use backstay_protocol::machines::once;
///
/// let told = [("m1", "no route"), ("m2", "busy"), ("m3", "no route")].map(|(m, c)| (m.to_owned(), c.to_owned()));
/// assert_eq!(once("machine", told), ["2 machines (m1, m3): no route", "machine m2: busy"]);
/// ```
pub fn once(noun: &str, told: impl IntoIterator<Item = (String, String)>) -> Vec<String> {
    let mut causes: Vec<(String, Vec<String>)> = Vec::new();
    for (subject, cause) in told {
        match causes.iter_mut().find(|(known, _)| *known == cause) {
            Some((_, subjects)) => subjects.push(subject),
            None => causes.push((cause, vec![subject])),
        }
    }
    causes.into_iter().map(|(cause, subjects)| format!("{}: {cause}", group(noun, &subjects))).collect()
}

/// `machine m1`, `2 machines (m1, m2)`, `9 machines (m1, m2, m3, m4, m5, …)`. `noun` is the word for one of `subjects`.
pub fn group(noun: &str, subjects: &[String]) -> String {
    let named = subjects.iter().take(NAMED_MAX).cloned().chain((subjects.len() > NAMED_MAX).then(|| "…".to_owned()));
    match subjects {
        [one] => format!("{noun} {one}"),
        all => format!("{} {noun}s ({})", all.len(), named.collect::<Vec<_>>().join(", ")),
    }
}

/// Adds the cause of one more machine to a text of causes. If it is the cause that the text ends with, the machine is
/// added to that one's list.
///
/// # Examples
/// ```
/// use backstay_protocol::machines::and;
///
/// let text = and("", "m1", "no route");
/// assert_eq!(text, "machine m1: no route");
/// assert_eq!(and(&text, "m2", "no route"), "2 machines (m1, m2): no route");
/// assert_eq!(and(&text, "m2", "busy"), "machine m1: no route; machine m2: busy");
/// ```
pub fn and(before: &str, machine: &str, cause: &str) -> String {
    let alone = format!("machine {machine}: {cause}");
    if before.is_empty() {
        return alone;
    }
    match before.strip_suffix(cause).and_then(|rest| rest.strip_suffix(": ")) {
        Some(head) => {
            let start = head.rfind("; ").map_or(0, |at| at + 2);
            match with(&head[start..], machine) {
                Some(all) => format!("{}{all}: {cause}", &head[..start]),
                None => format!("{before}; {alone}"),
            }
        }
        None => format!("{before}; {alone}"),
    }
}

/// The list of machines in a text of [`and`] with one more machine in it; `None` if the text is not such a list.
fn with(group: &str, machine: &str) -> Option<String> {
    let listed = |names: &str, count: usize| format!("{count} machines ({names})");
    if let Some(one) = group.strip_prefix("machine ") {
        return Some(if one == machine { group.to_owned() } else { listed(&format!("{one}, {machine}"), 2) });
    }
    let (count, names) = group.strip_suffix(')')?.split_once(" machines (")?;
    let count: usize = count.parse().ok()?;
    if names.split(", ").any(|name| name == machine) {
        return Some(group.to_owned());
    }
    let names = if count < NAMED_MAX {
        format!("{names}, {machine}")
    } else if names.ends_with('…') {
        names.to_owned()
    } else {
        format!("{names}, …")
    };
    Some(listed(&names, count.saturating_add(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "27c16241-96bf-4f17-9579-ea3a6c4a3ca8";

    #[test]
    fn a_machine_is_called_by_the_names_that_are_known() {
        assert_eq!(called("m1", "cp-1", ID), "m1 (cp-1)");
        assert_eq!(called("cp-1", "cp-1", ID), "cp-1");
        assert_eq!((called("m1", "", ID), called("", "cp-1", ID)), ("m1".into(), "cp-1".into()));
        assert_eq!((called("", "", ID), called("", " ", "ü")), ("27c16241".into(), "ü".into()));
    }

    #[test]
    fn a_claimed_name_is_short_and_commands_nothing() {
        let shown = called("a\u{1b}[2J\nb", &"x".repeat(1000), ID);
        assert!(shown.starts_with("a\u{fffd}[2J b (xxx") && shown.len() < 100, "{shown:?}");
    }

    #[test]
    fn a_cause_that_several_share_is_said_once() {
        let told = |pairs: &[(&str, &str)]| {
            once("machine", pairs.iter().map(|(who, why)| ((*who).to_owned(), (*why).to_owned())))
        };
        let three = [("m1", "no route"), ("m2", "busy"), ("m3", "no route")];
        assert_eq!(told(&three), ["2 machines (m1, m3): no route", "machine m2: busy"]);
        let many: Vec<(String, String)> = (0..7).map(|n| (format!("m{n}"), "full".into())).collect();
        assert_eq!(once("attempt", many), ["7 attempts (m0, m1, m2, m3, m4, …): full"]);
    }

    #[test]
    fn one_more_machine_with_the_last_cause_is_added_to_it() {
        let mut text = String::new();
        let mut told = Vec::new();
        for (machine, cause) in
            [("m1", "a: b"), ("m2", "a: b"), ("m2", "a: b"), ("m3", "full; or so"), ("m1", "full; or so")]
        {
            text = and(&text, machine, cause);
            told.push(text.clone());
        }
        let both = "2 machines (m1, m2): a: b";
        assert_eq!(told[..3], ["machine m1: a: b".to_owned(), both.into(), both.into()]);
        assert_eq!(told[4], format!("{both}; 2 machines (m3, m1): full; or so"));
        let many = (0..8).fold(String::new(), |text, n| and(&text, &format!("m{n}"), "full"));
        assert_eq!(many, "8 machines (m0, m1, m2, m3, m4, …): full");
        assert_eq!(and("the store: full", "m1", "full"), "the store: full; machine m1: full");
    }
}
