//! Samples of one measure, and what is told of them.

/// Samples, in no order.
#[derive(Clone, Debug, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// Adds one.
    pub fn add(&mut self, sample: f64) {
        self.0.push(sample);
    }

    /// The middle one, or the mean of the two in the middle; not a number where there is none.
    pub fn median(&self) -> f64 {
        let sorted = self.sorted();
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        let middle = sorted.len() / 2;
        if sorted.len() % 2 == 1 {
            at(middle)
        } else {
            (at(middle.wrapping_sub(1)) + at(middle)) / 2.0
        }
    }

    /// The smallest sample that nine tenths do not exceed.
    pub fn p90(&self) -> f64 {
        let sorted = self.sorted();
        let rank = (sorted.len() * 9).div_ceil(10);
        sorted.get(rank.wrapping_sub(1)).copied().unwrap_or(f64::NAN)
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outlier_moves_neither_the_median_nor_the_ninetieth_percentile() {
        let samples = Samples([5.0, 1.0, 2.0, 3.0, 4.0, 6.0, 7.0, 8.0, 9.0, 1e9].into());
        assert_eq!((samples.median(), samples.p90()), (5.5, 9.0));
        assert_eq!(Samples(vec![3.0]).median(), 3.0);
    }

    #[test]
    fn without_samples_there_is_no_number() {
        assert!(Samples::default().median().is_nan() && Samples::default().p90().is_nan());
    }
}
