//! How much of a beat is kept. Pure.
//!
//! A beat contains whatever its sender puts into it. What is kept goes into answers and records that must fit into one
//! message of NATS, so one agent's beat must not be able to make an answer too large for everybody.

use backstay_daemon::terminal::plain;
use backstay_protocol::bus::{Beat, ListedMember, Member, MemberCheck, MemberIdentity, Progress, RestoreState};
use backstay_protocol::limits;

/// The beat, with texts and lists cut to their limits.
pub fn bounded(mut beat: Beat) -> Beat {
    words([&mut beat.cluster, &mut beat.machine, &mut beat.agent_version, &mut beat.recipient, &mut beat.attempt]);
    words([&mut beat.host]);
    cut(&mut beat.etcd_error, limits::TEXT);
    beat.progress.iter_mut().for_each(progress);
    beat.member.iter_mut().for_each(member);
    beat.seat.iter_mut().for_each(seat);
    beat.restore.iter_mut().for_each(restore);
    beat
}

/// The same for what an agent sends between two beats.
pub fn progress(progress: &mut Progress) {
    words([&mut progress.attempt]);
}

fn member(member: &mut Member) {
    words([&mut member.etcd_version]);
    member.alarms.truncate(limits::FOLDERS);
    words(&mut member.alarms);
}

fn seat(seat: &mut MemberIdentity) {
    words([&mut seat.control, &mut seat.etcd_version]);
    cut(&mut seat.error, limits::TEXT);
    cut(&mut seat.folder, limits::PATH);
    members(&mut seat.members);
}

fn members(members: &mut Vec<ListedMember>) {
    members.truncate(limits::MEMBERS);
    for member in members {
        words([&mut member.name]);
        member.peer_urls.truncate(limits::PEER_URLS);
        words(&mut member.peer_urls);
    }
}

fn restore(state: &mut RestoreState) {
    words([&mut state.restore]);
    cut(&mut state.error, limits::TEXT);
    cut(&mut state.etcd_text, limits::TEXT);
    cut(&mut state.aside, limits::PATH);
    state.digest.truncate(limits::WORD);
    state.left.truncate(limits::FOLDERS);
    state.left.iter_mut().for_each(|folder| cut(folder, limits::PATH));
    state.check.iter_mut().for_each(check);
}

fn check(check: &mut MemberCheck) {
    cut(&mut check.error, limits::TEXT);
    members(&mut check.members);
}

fn words<'a>(words: impl IntoIterator<Item = &'a mut String>) {
    words.into_iter().for_each(|word| cut(word, limits::WORD));
}

/// Cut at a character. Control characters are removed, too: a terminal would obey them, and JSON needs six bytes for
/// each.
fn cut(text: &mut String, max: usize) {
    text.truncate(text.floor_char_boundary(max));
    if let std::borrow::Cow::Owned(shown) = plain(text) {
        *text = shown;
    }
}

#[cfg(test)]
mod tests {
    use backstay_protocol::bus::EtcdAfter;
    use prost::Message;

    use super::*;

    fn long() -> String {
        "\u{1}".repeat(100_000)
    }

    /// All that an agent can say, `text` and `many` wherever something may stand.
    fn beat(text: &str, many: usize) -> Beat {
        let list = || vec![text.to_owned(); many];
        let seat = || ListedMember { id: 1, name: text.into(), peer_urls: list(), learner: false };
        let check = MemberCheck { error: text.into(), members: vec![seat(); many], ..MemberCheck::default() };
        Beat {
            cluster: text.into(),
            machine: text.into(),
            agent_version: text.into(),
            recipient: text.into(),
            attempt: text.into(),
            host: text.into(),
            etcd_error: text.into(),
            progress: Some(Progress { attempt: text.into(), ..Progress::default() }),
            member: Some(Member { etcd_version: text.into(), alarms: list(), ..Member::default() }),
            seat: Some(MemberIdentity {
                control: text.into(),
                error: text.into(),
                folder: text.into(),
                members: vec![seat(); many],
                etcd_version: text.into(),
                ..MemberIdentity::default()
            }),
            restore: Some(RestoreState {
                restore: text.into(),
                error: text.into(),
                digest: text.as_bytes().to_vec().into(),
                aside: text.into(),
                check: Some(check),
                left: list(),
                etcd: EtcdAfter::Down.into(),
                etcd_text: text.into(),
                ..RestoreState::default()
            }),
            ..Beat::default()
        }
    }

    #[test]
    fn what_an_agent_really_says_stays_as_it_is() {
        let real = beat("etcd does not answer:\n\tconnection refused – müde", 7);
        assert_eq!(bounded(real.clone()), real);
    }

    #[test]
    fn however_much_it_says_little_is_kept() {
        for text in [long(), "ü".repeat(50_000), "\u{1b}[2J".repeat(10_000)] {
            let kept = bounded(beat(&text, 40));
            // Each URL of each member is the most of it, and a replacement character has three bytes.
            assert!(kept.encoded_len() < 700_000, "{} bytes", kept.encoded_len());
            let seat = kept.seat.expect("made");
            assert!(seat.error.len() <= 3 * limits::TEXT && seat.members.len() == limits::MEMBERS);
            assert!(!kept.etcd_error.contains(|c: char| c.is_control()), "{:?}", kept.etcd_error);
        }
    }
}
