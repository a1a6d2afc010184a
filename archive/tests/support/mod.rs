//! What the tests of this crate share.
#![allow(dead_code)] // each test binary uses its own share

use backstay_archive as archive;

pub mod fixture;
pub mod memory;
