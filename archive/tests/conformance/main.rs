//! One suite that every store must pass, a folder and a bucket alike; then what can go wrong only with S3.

mod faults;
mod provider;
mod server;
mod tls;

mod environment;
mod local;
mod memory;
mod s3_answers;
mod s3_faults;
mod s3_names;
mod s3_providers;
mod suite;

use backstay_archive::Key;
use backstay_protocol::AttemptId;
use bytes::Bytes;
use uuid::Uuid;

fn key(text: &str) -> Key {
    Key::new(text).expect("a good key")
}

fn attempt(n: u128) -> AttemptId {
    AttemptId(Uuid::from_u128(n))
}

/// Bytes that differ everywhere, so that no part can be mistaken for another.
fn bytes(seed: u8, length: usize) -> Bytes {
    let mut state = u32::from(seed).wrapping_mul(2_654_435_761).wrapping_add(1);
    let mut next = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}
