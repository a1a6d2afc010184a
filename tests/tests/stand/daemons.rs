//! How the workspace's programs are found and started.

use std::path::Path;

use anyhow::Result;
use backstay_tests::daemon::{bare_command, binary};

#[test]
fn a_program_that_was_not_built_is_a_clear_error() {
    let error = binary("backstay-never-built").expect_err("there is no such program");
    assert!(error.to_string().contains("run cargo build --workspace first"), "{error}");
}

#[test]
fn the_programs_of_this_package_are_found() -> Result<()> {
    assert_eq!(binary("backstay-test-s3")?, Path::new(env!("CARGO_BIN_EXE_backstay-test-s3")));
    Ok(())
}

#[test]
fn foreign_settings_do_not_reach_a_program() -> Result<()> {
    // Cargo sets variables of its own; `env` shows what a child sees.
    let output = bare_command(Path::new("env")).env("AWS_SET_BY_THE_TEST", "1").output()?;
    let text = String::from_utf8(output.stdout)?;
    let seen: Vec<&str> = text.lines().filter(|l| l.starts_with("AWS_") || l.starts_with("BACKSTAY_")).collect();
    assert_eq!(seen, ["AWS_SET_BY_THE_TEST=1"]);
    Ok(())
}
