//! Medians and extremes of a few runs.

use std::fmt;

/// The median, the least and the greatest of some values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Summary {
    /// Of at least one value; all zeros where there is none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or_default();
        let count = values.len();
        let median = (at(count.saturating_sub(1) / 2) + at(count / 2)) / 2.0;
        // Of an even count, the two in the middle; of an odd one, the same twice.
        Self { median, min: at(0), max: at(count.saturating_sub(1)) }
    }
}

/// `median (min–max)`; the precision is that of all three.
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(2);
        let Self { median, min, max } = self;
        write!(f, "{median:.digits$} ({min:.digits$}–{max:.digits$})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_and_even_counts() {
        assert_eq!(Summary::of([3.0, 1.0, 2.0]), Summary { median: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(Summary::of([4.0, 1.0, 2.0, 3.0]).median, 2.5);
        assert_eq!(Summary::of([7.0]), Summary { median: 7.0, min: 7.0, max: 7.0 });
        assert_eq!(Summary::of([]), Summary { median: 0.0, min: 0.0, max: 0.0 });
    }

    #[test]
    fn shown_with_its_extremes() {
        assert_eq!(format!("{:.1}", Summary::of([3.0, 1.0, 2.0])), "2.0 (1.0–3.0)");
    }
}
