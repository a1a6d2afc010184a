//! The parts of an upload that the store has acknowledged, and the check that they are complete.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Mutex;

use super::{ErrorKind, PART_BYTES, PARTS_MAX, StoreError};

/// Acknowledged parts by number: their length in bytes, and what the store answered.
#[derive(Debug)]
pub(super) struct AcknowledgedParts<T> {
    acknowledged: Mutex<BTreeMap<u32, (u64, T)>>,
}

impl<T: Clone> AcknowledgedParts<T> {
    pub(super) fn new() -> Self {
        Self { acknowledged: Mutex::new(BTreeMap::new()) }
    }

    /// Checks that number and length of a part are within the limits.
    pub(super) fn admit(number: u32, bytes: usize, target: impl Display) -> Result<(), StoreError> {
        let cause = if !(1..=PARTS_MAX).contains(&number) {
            format!("a part number must be from 1 to {PARTS_MAX}")
        } else if !(1..=PART_BYTES).contains(&bytes) {
            format!("a part must have 1 to {PART_BYTES} bytes, but this one has {bytes}")
        } else {
            return Ok(());
        };
        Err(StoreError::new(ErrorKind::Invalid, &format!("upload part {number} of"), target, cause))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Records a part that the store accepted. One with the same number is replaced.
    pub(super) fn acknowledge(&self, number: u32, bytes: usize, said: T) {
        self.lock().insert(number, (bytes as u64, said));
    }

    /// The total length, and what the store answered for parts `1..=count`, in order. Fails unless these are exactly
    /// the parts that it has, and all but the last are full.
    pub(super) fn whole(&self, count: u32, target: impl Display) -> Result<(u64, Vec<T>), StoreError> {
        let parts = self.lock();
        let wrong = |cause: String| Err(StoreError::new(ErrorKind::Invalid, "complete", &target, cause));
        if count == 0 {
            return wrong("an object must have at least one part".into());
        }
        if let Some(missing) = (1..=count).find(|n| !parts.contains_key(n)) {
            return wrong(format!("part {missing} of {count} was not uploaded"));
        }
        if let Some(extra) = parts.keys().find(|n| **n > count) {
            return wrong(format!("part {extra} was uploaded, but there should be only {count}"));
        }
        if let Some((number, (bytes, _))) = parts.range(..count).find(|(_, (bytes, _))| *bytes != PART_BYTES as u64) {
            return wrong(format!("part {number} of {count} has {bytes} bytes instead of {PART_BYTES}"));
        }
        Ok((parts.values().map(|(bytes, _)| bytes).sum(), parts.values().map(|(_, said)| said.clone()).collect()))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u32, (u64, T)>> {
        self.acknowledged.lock().expect("no holder of this lock panics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ledger(parts: &[(u32, usize)]) -> AcknowledgedParts<u32> {
        let ledger = AcknowledgedParts::new();
        for (number, bytes) in parts {
            ledger.acknowledge(*number, *bytes, *number);
        }
        ledger
    }

    #[test]
    fn bounds_of_a_part() {
        for (number, bytes, good) in [
            (1, 1, true),
            (PARTS_MAX, PART_BYTES, true),
            (0, 1, false),
            (PARTS_MAX + 1, 1, false),
            (1, 0, false),
            (1, PART_BYTES + 1, false),
        ] {
            assert_eq!(AcknowledgedParts::<()>::admit(number, bytes, "x").is_ok(), good, "{number} {bytes}");
        }
    }

    #[test]
    fn a_short_part_may_only_be_the_last() {
        assert_eq!(ledger(&[(1, PART_BYTES), (2, 7)]).whole(2, "x").expect("whole").0, PART_BYTES as u64 + 7);
        let text = ledger(&[(1, 7), (2, PART_BYTES)]).whole(2, "x").expect_err("short").to_string();
        assert_eq!(text, "failed to complete x: part 1 of 2 has 7 bytes instead of 8388608");
    }

    proptest! {
        #[test]
        fn only_exactly_the_parts_are_whole(sent in prop::collection::btree_set(1u32..12, 0..12), count in 0u32..12) {
            let ledger = ledger(&sent.iter().map(|n| (*n, PART_BYTES)).collect::<Vec<_>>());
            let exact = count > 0 && sent.iter().copied().eq(1..=count);
            match ledger.whole(count, "x") {
                Ok((bytes, said)) => {
                    prop_assert!(exact);
                    prop_assert_eq!(bytes, u64::from(count) * PART_BYTES as u64);
                    prop_assert_eq!(said, (1..=count).collect::<Vec<_>>());
                }
                Err(error) => prop_assert!(!exact && error.is(ErrorKind::Invalid), "{error}"),
            }
        }
    }
}
