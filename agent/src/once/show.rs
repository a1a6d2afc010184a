//! Shows how far a backup is: one line on a terminal, which is redrawn.

use std::sync::Arc;
use std::time::Duration;

use backstay_archive::writer::Progress;
use backstay_daemon::{terminal, units};
use tokio::sync::watch;
use tokio::time::Instant;

/// How often the progress is shown.
const LOOK: Duration = Duration::from_millis(250);

/// Characters between the brackets of the bar.
const BAR: usize = 16;

/// Waits for the end of a backup, and meanwhile shows the progress if `is_terminal`.
pub async fn shown<T>(backup: impl Future<Output = T>, is_terminal: bool, tries: &watch::Receiver<Arc<Progress>>) -> T {
    if !is_terminal {
        return backup.await;
    }
    let mut looks = tokio::time::interval(LOOK);
    let mut reading: Option<Instant> = None;
    tokio::pin!(backup);
    loop {
        tokio::select! {
            done = &mut backup => {
                terminal::status("");
                return done;
            }
            now = looks.tick() => {
                let progress = Arc::clone(&tries.borrow());
                let (read, total, stored) = (progress.read(), progress.total(), progress.stored());
                let since = if read == 0 { None } else { Some(*reading.get_or_insert(now)) };
                let elapsed = since.map(|since| now.duration_since(since)).unwrap_or_default();
                terminal::status(&line(read, total, stored, elapsed));
            }
        }
    }
}

/// The line, which fits into 80 columns: bytes of the database that were read in `elapsed`, and its size (0 while
/// unknown); and bytes in the store.
fn line(read: u64, total: u64, stored: u64, elapsed: Duration) -> String {
    if total == 0 {
        return "connecting to etcd and the store".into();
    }
    if read >= total {
        return format!(
            "read all {}: checking and finishing the upload, {} stored",
            units::bytes(total),
            units::bytes(stored)
        );
    }
    let share = read as f64 / total as f64;
    let filled = (share * BAR as f64) as usize;
    let bar = format!("{:<BAR$}", "=".repeat(filled) + ">");
    let rate = read as f64 / elapsed.as_secs_f64();
    let pace = if rate.is_finite() && rate >= 1.0 {
        let left = Duration::from_secs_f64(((total - read) as f64 / rate).min(LEFT_MAX));
        format!(", {}/s, {} left", units::bytes(rate as u64), units::span(left))
    } else {
        String::new()
    };
    format!("reading [{bar}] {} of {}{pace}", units::bytes(read), units::bytes(total))
}

/// The longest remaining time that is shown, in seconds.
const LEFT_MAX: f64 = 99.0 * 86_400.0;

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_line_says_how_far_it_is_how_fast_and_how_long_it_will_be() {
        let seconds = Duration::from_secs;
        for (line, says) in [
            (line(0, 0, 0, seconds(0)), "connecting to etcd and the store"),
            (line(0, 8 * MIB, 0, seconds(0)), "reading [>               ] 0 B of 8.0 MiB"),
            (
                line(2 * MIB, 8 * MIB, 0, seconds(2)),
                "reading [====>           ] 2.0 MiB of 8.0 MiB, 1.0 MiB/s, 6s left",
            ),
            (
                line(8 * MIB - 1, 8 * MIB, 0, seconds(8)),
                "reading [===============>] 8.0 MiB of 8.0 MiB, 1.0 MiB/s, 0s left",
            ),
            (
                line(8 * MIB, 8 * MIB, MIB, seconds(8)),
                "read all 8.0 MiB: checking and finishing the upload, 1.0 MiB stored",
            ),
        ] {
            assert_eq!(line, says);
        }
    }

    #[test]
    fn every_line_fits_a_terminal_of_80_columns() {
        for total in [1, 1000, 1023 * MIB, 1023 * 1024 * MIB] {
            for read in [0, 1, total / 3, total / 2, total - 1, total] {
                for elapsed in [0, 1, 60, 100_000, 10_000_000] {
                    let line = line(read, total, read, Duration::from_secs(elapsed));
                    assert!(line.len() < 80, "{}: {line}", line.len());
                }
            }
        }
    }

    #[tokio::test]
    async fn where_there_is_no_terminal_nothing_but_the_backup_happens() {
        let (_tries, seen) = watch::channel(Arc::<Progress>::default());
        assert_eq!(shown(async { 7 }, false, &seen).await, 7);
    }
}
