//! `backstay-test-releases`: what tests run on. Without an argument the table; with `others` the names of the releases
//! that are not the chosen one.

use anyhow::{Result, bail};
use backstay_tests::releases;

fn main() -> Result<()> {
    let chosen = releases::chosen()?;
    match std::env::args().nth(1).as_deref() {
        None => println!("{}", releases::shown(releases::table()?, &chosen.name)),
        Some("others") => releases::others()?.iter().for_each(|release| println!("{}", release.name)),
        Some(other) => bail!("{other:?} is no argument of this program: leave it out, or say \"others\""),
    }
    Ok(())
}
