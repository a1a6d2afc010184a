//! What one pass over a store passes over: each is named once, and a thousand of them flood neither log nor terminal.

use super::error::CatalogError;
use crate::store::StoreError;

/// So many are named; of the others only the count is told.
const NAMED: usize = 20;

/// Objects that were passed over, each for a trouble of its own.
#[derive(Debug, Default)]
pub struct Skipped {
    count: usize,
    named: Vec<String>,
    kept_back: Option<StoreError>,
}

impl Skipped {
    /// The error names the object.
    pub fn note(&mut self, error: CatalogError) {
        self.count += 1;
        if self.named.len() < NAMED {
            tracing::warn!(%error, "skipped an object");
            self.named.push(error.to_string());
        }
        if let CatalogError::Object(error) = error {
            self.kept_back.get_or_insert(error);
        }
    }

    pub fn count(&self) -> usize {
        self.count
    }

    /// Why the first of those is not handed out that the store keeps back: archived, or refused by a policy.
    pub fn kept_back(&self) -> Option<&StoreError> {
        self.kept_back.as_ref()
    }

    /// For people: what was skipped and why, and how many more there are that are not named.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let more = self.count - self.named.len();
        let more = (more > 0).then(|| format!("{more} more, each for its own reason"));
        self.named.iter().cloned().chain(more)
    }

    /// Tells the log of those that were not named.
    pub(super) fn end(&self) {
        let more = self.count - self.named.len();
        if more > 0 {
            tracing::warn!(more, "skipped more objects");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::ManifestError;
    use crate::store::Key;

    #[test]
    fn as_many_as_a_person_reads_are_named_and_the_others_are_counted() {
        for (count, lines, last) in [(0, 0, ""), (20, 20, "19"), (21, 21, "1 more"), (5_000, 21, "4980 more")] {
            let mut skipped = Skipped::default();
            for n in 0..count {
                let key = Key::new(&format!("c/{n}")).expect("a key");
                skipped.note(CatalogError::Manifest { key, cause: ManifestError::TooLarge });
            }
            let told: Vec<String> = skipped.lines().collect();
            assert_eq!((skipped.count(), told.len()), (count, lines));
            assert!(told.last().is_none_or(|line| line.contains(last)), "{told:?}");
        }
    }
}
