//! What is installed: samples that parse, units that are hardened and verify, packages that hold what they should.

mod packages;
mod samples;
mod tested;
mod units;

use std::path::{Path, PathBuf};

/// The checkout.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is a folder of the checkout").to_owned()
}
