//! Numbers that were measured several times.
use std::fmt;

/// Least, middle and greatest of some numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    pub(super) min: f64,
    pub(super) median: f64,
    pub(super) max: f64,
}

impl Spread {
    /// Of at least one number; the median of an even count is the lower one.
    pub(super) fn of(numbers: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = numbers.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        Some(Self { min, median: sorted[(sorted.len() - 1) / 2], max })
    }
}

impl fmt::Display for Spread {
    /// With the formatter's precision; one number when they all look alike.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(0);
        let [min, median, max] = [self.min, self.median, self.max].map(|number| format!("{number:.digits$}"));
        let text = if min == max { median } else { format!("{min} / {median} / {max}") };
        f.pad_integral(true, "", &text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_of_nothing_is_none() {
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn spread_is_shown_once_when_nothing_spreads() {
        let shown =
            |numbers: &[f64], width: usize| format!("{:width$.0}", Spread::of(numbers.iter().copied()).unwrap());
        assert_eq!(shown(&[3.0, 1.0, 2.0], 0), "1 / 2 / 3");
        assert_eq!(shown(&[7.1, 7.2], 4), "   7");
    }
}
