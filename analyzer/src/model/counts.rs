//! Cumulative counters with the knowledge of which of them were counted at all.

use records::{METRIC_COUNT, MetricSet, Values};

/// One value per metric; those outside `known` were not counted and mean nothing.
#[derive(Debug, Clone)]
pub struct Counts {
    values: [u64; METRIC_COUNT],
    known: MetricSet,
}

impl PartialEq for Counts {
    fn eq(&self, other: &Counts) -> bool {
        self.known == other.known
            && (0..METRIC_COUNT).all(|metric| self.get(metric) == other.get(metric))
    }
}

impl Eq for Counts {}

impl Default for Counts {
    /// Nothing is known.
    fn default() -> Counts {
        Counts { values: [0; METRIC_COUNT], known: MetricSet::EMPTY }
    }
}

impl From<&Values> for Counts {
    fn from(values: &Values) -> Counts {
        Counts { values: *values.raw(), known: values.known() }
    }
}

impl Counts {
    /// The value of a metric; `None` if it was not counted.
    pub fn get(&self, metric: usize) -> Option<u64> {
        self.known.contains(metric).then(|| self.values[metric])
    }

    /// The metrics that were counted.
    pub fn known(&self) -> MetricSet {
        self.known
    }

    /// The sum of some metrics; `None` if not one of them was counted.
    pub fn sum(&self, metrics: impl IntoIterator<Item = usize>) -> Option<u64> {
        let counted = metrics.into_iter().filter_map(|metric| self.get(metric));
        counted.fold(None, |sum: Option<u64>, value| Some(sum.unwrap_or(0).saturating_add(value)))
    }

    /// Adds other counters; a metric is known when one of the two sides knows it.
    pub fn add(&mut self, other: &Counts) {
        self.combine(other, u64::saturating_add);
    }

    /// Takes the larger value of each metric, for two views of the same growing counters.
    pub fn raise_to(&mut self, other: &Counts) {
        self.combine(other, u64::max);
    }

    /// How far these counters are beyond what they stood at earlier; a metric that went back, or that one
    /// side does not know, is not known.
    pub fn since(&self, earlier: &Counts) -> Counts {
        let mut known = self.known.intersection(earlier.known);
        let mut values = [0; METRIC_COUNT];
        for (index, value) in values.iter_mut().enumerate() {
            match self.values[index].checked_sub(earlier.values[index]) {
                Some(advance) => *value = advance,
                None => known = known.difference(MetricSet::EMPTY.with(index)),
            }
        }
        Counts { values, known }
    }

    /// Declares those of some metrics as not counted that stand at zero.
    pub fn forget_zeros(&mut self, metrics: MetricSet) {
        for (index, value) in self.values.iter().enumerate() {
            if *value == 0 && metrics.contains(index) {
                self.known = self.known.difference(MetricSet::EMPTY.with(index));
            }
        }
    }

    /// Declares metrics as not counted.
    pub fn forget(&mut self, metrics: MetricSet) {
        self.known = self.known.difference(metrics);
    }

    /// Declares all but some metrics as not counted.
    pub fn retain(&mut self, metrics: MetricSet) {
        self.known = self.known.intersection(metrics);
    }

    fn combine(&mut self, other: &Counts, operation: impl Fn(u64, u64) -> u64) {
        if self.known == other.known {
            // What is unknown on both sides may become anything: nobody sees it.
            for (value, other) in self.values.iter_mut().zip(&other.values) {
                *value = operation(*value, *other);
            }
            return;
        }
        for (index, value) in self.values.iter_mut().enumerate() {
            match (self.known.contains(index), other.known.contains(index)) {
                (true, true) => *value = operation(*value, other.values[index]),
                (false, true) => *value = other.values[index],
                (_, false) => {}
            }
        }
        self.known = self.known.union(other.known);
    }
}

#[cfg(test)]
impl Counts {
    /// Counters for tests: these metrics are known.
    pub fn of(values: &[(usize, u64)]) -> Counts {
        let mut counts = Counts::default();
        for &(metric, value) in values {
            counts.values[metric] = value;
            counts.known = counts.known.with(metric);
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_never_becomes_zero() {
        let mut sum = Counts::of(&[(0, 5), (1, 7)]);
        sum.add(&Counts::of(&[(1, 1), (2, 3)]));
        assert_eq!([0, 1, 2, 3].map(|metric| sum.get(metric)), [Some(5), Some(8), Some(3), None]);
        assert_eq!(sum.sum([0, 3]), Some(5));
        assert_eq!(sum.sum([3, 4]), None);
        sum.forget(MetricSet::ENGINE);
        assert_eq!(sum, Counts { known: MetricSet::EMPTY, ..sum.clone() });
    }

    #[test]
    fn the_larger_view_wins() {
        let mut view = Counts::of(&[(0, 5), (1, 7)]);
        view.raise_to(&Counts::of(&[(0, 9), (1, 2)]));
        assert_eq!([view.get(0), view.get(1)], [Some(9), Some(7)]);
    }
}
