//! How long things may be that are told, kept and shown: a message must fit what NATS lets through, and a record its entry.
//! In bytes, but where it says otherwise.

/// A text for people in a message, and the error in a status.
pub const TEXT: usize = 2048;
/// An error in the record of a restore or a proof.
pub const ERROR: usize = 1000;
/// An error of one of the attempts that a record remembers: the status has the whole of the latest.
pub const RUN_ERROR: usize = 300;
/// A name, an id, a version, a URL.
pub const WORD: usize = 300;
/// A path.
pub const PATH: usize = 1024;
/// Members of one etcd cluster, in number; etcd recommends seven at most.
pub const MEMBERS: usize = 32;
/// Peer URLs of one member, in number.
pub const PEER_URLS: usize = 8;
/// Folders of one restore on one machine, and alarms, in number.
pub const FOLDERS: usize = 16;

/// The text, cut at a character where it is longer than `max` bytes, which are three at least.
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
