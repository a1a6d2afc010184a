//! What a machine is called in front of people: by the name of its etcd member and its host name, and by the first
//! characters of its UUID where neither is known. Pure.
//!
//! A name is a claim of the agent that tells it, so it is clipped and holds no control characters. Nothing is decided by it.

use crate::limits;

/// Characters of a UUID that are shown where there is no name.
pub const SHORT_ID: usize = 8;
/// A name is shown up to this many bytes; no host name is longer.
const NAME_MAX: usize = 64;
/// So many machines are named where several share one cause.
const NAMED_MAX: usize = 5;

/// The beginning of a UUID, as it is shown in place of a name.
pub fn short(id: &str) -> &str {
    &id[..id.floor_char_boundary(SHORT_ID)]
}

/// `m1`, `m1 (cp-1)` where the host is called otherwise, `cp-1`, or `27c16241`. `id` is the machine's UUID.
pub fn called(member: &str, host: &str, id: &str) -> String {
    match (name(member).as_str(), name(host).as_str()) {
        ("", "") => short(id).to_owned(),
        ("", name) | (name, "") => name.to_owned(),
        (member, host) if member == host => member.to_owned(),
        (member, host) => format!("{member} ({host})"),
    }
}

/// A name that somebody claims, as one word or a few on one line.
fn name(told: &str) -> String {
    let shown = |c: char| match c {
        c if c.is_whitespace() => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    limits::cut(&told.trim().chars().map(shown).collect::<String>(), NAME_MAX)
}

/// What several subjects have in common is said once: `machine m1: CAUSE`, or `3 machines (m1, m2, m3): CAUSE`. The order is
/// that of the first of each. `noun` is what one of them is called.
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

/// `machine m1`, `2 machines (m1, m2)`, `9 machines (m1, m2, m3, m4, m5, …)`.
pub fn group(noun: &str, subjects: &[String]) -> String {
    let named = subjects.iter().take(NAMED_MAX).cloned().chain((subjects.len() > NAMED_MAX).then(|| "…".to_owned()));
    match subjects {
        [one] => format!("{noun} {one}"),
        all => format!("{} {noun}s ({})", all.len(), named.collect::<Vec<_>>().join(", ")),
    }
}

/// A text of causes, with that of one more machine: where it is the cause that was told last, that text names both.
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

/// A group of [`and`] with one more machine in it; `None` where the text is no such group.
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
