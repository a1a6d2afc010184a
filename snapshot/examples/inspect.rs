//! Inspects a snapshot file: `inspect FILE [AT [COMPACT [MEMORY]]]`. Prints what it contains, the HashKV at revision
//! AT that a member with compact revision COMPACT reports, and how long that took. The file is read beforehand, in
//! pieces of 256 KiB.

use std::time::Instant;

use backstay_snapshot::TRAILER_BYTES;
use backstay_snapshot::inspect::{Inspector, MEMORY_DEFAULT, Options};

const PIECE: usize = 256 * 1024;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize| arguments.get(index).map(|text| text.parse::<i64>()).transpose();
    let file = std::fs::read(arguments.first().ok_or("inspect FILE [AT [COMPACT [MEMORY]]]")?)?;
    // What is no multiple of a sector has its trailer.
    let database = if file.len() % 512 == TRAILER_BYTES { &file[..file.len() - TRAILER_BYTES] } else { &file[..] };
    let memory = number(3)?.map_or(MEMORY_DEFAULT, i64::cast_unsigned);
    let begin = Instant::now();
    let mut inspector = Inspector::new(Options { hash_at: number(1)?, memory });
    for piece in database.chunks(PIECE) {
        inspector.update(piece)?;
    }
    let streamed = begin.elapsed();
    let inspection = inspector.finish()?;
    let hash = inspection.hash_kv(number(2)?.unwrap_or(-1));
    let whole = begin.elapsed();
    println!("{:#?}\nHashKV {hash:?}", inspection.contents);
    let mib = database.len() as f64 / f64::from(1 << 20);
    let pages = database.len() as u64 / u64::from(inspection.page_bytes);
    println!(
        "{mib:.0} MiB in {whole:.2?} ({streamed:.2?} of it while it streams): {:.0} MiB/s, {} bytes of memory, {} per page",
        mib / whole.as_secs_f64(),
        inspection.memory,
        inspection.memory / pages
    );
    Ok(())
}
