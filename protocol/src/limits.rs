//! How long texts and lists may be in messages, records and tables: a message must be smaller than the `max_payload` of
//! nats-server, and a record must fit into one entry of the KV. Limits are in bytes, unless the comment says otherwise.

/// A text for people in a message, and the error in a status.
pub const TEXT: usize = 2048;
/// An error in the record of a restore or a proof.
pub const ERROR: usize = 1000;
/// An error of one of the attempts that a record remembers; the status has the latest one at full length.
pub const RUN_ERROR: usize = 300;
/// A name, an id, a version, a URL.
pub const WORD: usize = 300;
/// A path.
pub const PATH: usize = 1024;
/// Number of members of one etcd cluster; the etcd documentation recommends at most seven.
pub const MEMBERS: usize = 32;
/// Number of peer URLs of one member.
pub const PEER_URLS: usize = 8;
/// Number of folders of one restore on one machine; also the number of alarms of one member.
pub const FOLDERS: usize = 16;

/// The text, cut at a character and marked with `…` if it is longer than `max` bytes. `max` is at least three, the
/// length of the mark.
///
/// # Examples
/// ```
/// use backstay_protocol::limits::cut;
///
/// assert_eq!(cut("no route to host", 11), "no route…");
/// assert_eq!(cut("no route", 11), "no route");
/// ```
pub fn cut(text: &str, max: usize) -> String {
    const MARK: &str = "…";
    match text.len() > max {
        true => format!("{}{MARK}", &text[..text.floor_char_boundary(max.saturating_sub(MARK.len()))]),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_fits_stays_and_what_does_not_is_cut_at_a_character(text in ".{0,60}", max in 3_usize..80) {
            let shown = cut(&text, max);
            prop_assert!(shown.len() <= max);
            match text.len() <= max {
                true => prop_assert_eq!(shown, text),
                false => {
                    let kept = shown.strip_suffix('…').expect("marked");
                    // A character has four bytes at most.
                    prop_assert!(text.starts_with(kept) && kept.len() + 6 >= max);
                }
            }
        }
    }
}
