//! What a pass over a store skipped. The first ones are named, so that a thousand of them flood neither log nor
//! terminal.

use super::error::CatalogError;
use crate::store::StoreError;

/// How many are named; the others are only counted.
const NAMED: usize = 20;

/// Objects that were skipped, each for its own reason.
#[derive(Debug, Default)]
pub struct Skipped {
    count: usize,
    named: Vec<String>,
    kept_back: Option<StoreError>,
}

impl Skipped {
    /// Records a skipped object, which the error names. The first 20 are also logged as warnings.
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

    /// How many objects were skipped.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The error for the first object that the store holds back: it is archived, or a policy denies it. `None` if
    /// there is none.
    pub fn kept_back(&self) -> Option<&StoreError> {
        self.kept_back.as_ref()
    }

    /// Text for people: the first 20 objects with their reasons, and how many more there are.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let more = self.count - self.named.len();
        let more = (more > 0).then(|| format!("{more} more, each for its own reason"));
        self.named.iter().cloned().chain(more)
    }

    /// Logs how many were not named.
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
