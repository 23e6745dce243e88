//! The statistics of an experiment: area under the ROC curve, mean and standard deviation, and a
//! paired test.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::Serialize;

/// With up to this many pairs all assignments of signs are counted; with more, [`DRAWN_SIGNS`] are
/// drawn.
const EXACT_PAIRS: usize = 16;
/// Bins of confidence.
const BINS: usize = 15;
const DRAWN_SIGNS: u32 = 1 << EXACT_PAIRS;

/// Mean and sample standard deviation; the deviation of one number is 0.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Spread {
    pub mean: f64,
    pub deviation: f64,
}

impl Spread {
    pub(super) fn of(values: &[f64]) -> Self {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
        Self { mean, deviation: if values.len() > 1 { (squares / (n - 1.0)).sqrt() } else { 0.0 } }
    }
}

/// Computes the area under the ROC curve from probabilities, f64 [n, classes]: of the second of two
/// classes, or the mean over more classes, each against the rest. `None` if all labels are of one
/// class.
pub(super) fn auroc(probabilities: &[f64], labels: &[usize], classes: usize) -> Option<f64> {
    let of = |class: usize| {
        let scored = probabilities
            .chunks_exact(classes)
            .zip(labels)
            .map(|(row, &label)| (row[class], label == class));
        area(scored.collect())
    };
    if classes == 2 {
        return of(1);
    }
    let areas: Vec<f64> = (0..classes).filter_map(of).collect();
    (!areas.is_empty()).then(|| Spread::of(&areas).mean)
}

/// Computes the mean over the labels that occur of the share of their tiles whose most probable
/// class is theirs. `probabilities` f64 [n, classes].
pub(super) fn balanced_accuracy(probabilities: &[f64], labels: &[usize], classes: usize) -> f64 {
    let mut counts = vec![(0.0, 0.0); classes];
    for (row, &label) in probabilities.chunks_exact(classes).zip(labels) {
        counts[label].0 += f64::from(u8::from(most_probable(row) == label));
        counts[label].1 += 1.0;
    }
    let shares: Vec<f64> =
        counts.into_iter().filter(|(_, all)| *all > 0.0).map(|(right, all)| right / all).collect();
    Spread::of(&shares).mean
}

/// Computes the expected calibration error (Guo et al. 2017): the distance of the mean confidence
/// and the accuracy of each of 15 bins of confidence, weighted by their tiles. `probabilities` f64
/// [n, classes].
pub(super) fn calibration_error(probabilities: &[f64], labels: &[usize], classes: usize) -> f64 {
    let mut bins = [0.0; BINS];
    for (row, &label) in probabilities.chunks_exact(classes).zip(labels) {
        let class = most_probable(row);
        let bin = ((row[class] * BINS as f64) as usize).min(BINS - 1);
        bins[bin] += row[class] - f64::from(u8::from(class == label));
    }
    bins.iter().map(|off: &f64| off.abs()).sum::<f64>() / labels.len() as f64
}

fn most_probable(row: &[f64]) -> usize {
    (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).expect("at least one class")
}

/// Corrects p-values for their number (Holm 1979): each is at least as large as before, and the
/// chance that any of those below a level is a mistake is at most that level.
pub(super) fn holm(ps: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..ps.len()).collect();
    order.sort_by(|&a, &b| ps[a].total_cmp(&ps[b]));
    let (mut corrected, mut least) = (vec![0.0; ps.len()], 0.0f64);
    for (rank, place) in order.into_iter().enumerate() {
        least = least.max((ps[place] * (ps.len() - rank) as f64).min(1.0));
        corrected[place] = least;
    }
    corrected
}

/// Computes the probability that a positive scores higher than a negative; ties count half (Mann
/// and Whitney 1947).
pub(crate) fn area(mut scored: Vec<(f64, bool)>) -> Option<f64> {
    scored.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut negatives, mut wins) = (0.0, 0.0);
    for tied in scored.chunk_by(|a, b| a.0 == b.0) {
        let positives = tied.iter().filter(|(_, positive)| *positive).count() as f64;
        let others = tied.len() as f64 - positives;
        wins += positives * (negatives + others / 2.0);
        negatives += others;
    }
    let positives = scored.len() as f64 - negatives;
    (positives > 0.0 && negatives > 0.0).then(|| wins / (positives * negatives))
}

/// Computes the two-sided p-value of paired differences by the sign-flip permutation test of their
/// mean (Fisher 1935): the share of all assignments of signs for which the mean is at least as far
/// from 0. The smallest of ten pairs is 2/1024.
pub(super) fn sign_flip_p(differences: &[f64]) -> f64 {
    let observed = differences.iter().sum::<f64>().abs() - 1e-9;
    let extreme = |negative: &dyn Fn(usize) -> bool| {
        let sum: f64 =
            differences.iter().enumerate().map(|(i, d)| if negative(i) { -d } else { *d }).sum();
        sum.abs() >= observed
    };
    if differences.len() <= EXACT_PAIRS {
        let all = 1u32 << differences.len();
        return (0..all).filter(|signs| extreme(&|i| signs >> i & 1 == 1)).count() as f64
            / f64::from(all);
    }
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut drawn =
        || -> Vec<bool> { differences.iter().map(|_| rng.next_u32() & 1 == 1).collect() };
    let hits = (0..DRAWN_SIGNS).filter(|_| {
        let signs = drawn();
        extreme(&|i| signs[i])
    });
    (1 + hits.count()) as f64 / f64::from(1 + DRAWN_SIGNS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn balanced_accuracy_weighs_labels_and_not_tiles() {
        // Three of class 0, all right; one of class 1, wrong.
        let probabilities = [0.9, 0.1, 0.8, 0.2, 0.6, 0.4, 0.7, 0.3];
        assert_eq!(balanced_accuracy(&probabilities, &[0, 0, 0, 1], 2), 0.5);
        assert_eq!(balanced_accuracy(&probabilities[..6], &[0, 0, 0], 2), 1.0);
    }

    #[test]
    fn who_is_as_sure_as_right_is_calibrated() {
        // Confidence .75, three of four right.
        let probabilities = [0.75, 0.25].repeat(4);
        assert!(calibration_error(&probabilities, &[0, 0, 0, 1], 2) < 1e-12);
        assert!((calibration_error(&probabilities, &[1; 4], 2) - 0.75).abs() < 1e-12);
    }

    #[test]
    fn p_values_grow_with_their_number_as_holm_says() {
        // Worked out by hand: 4·.01, 3·.02, then not less than those before.
        let corrected = holm(&[0.04, 0.01, 0.03, 0.02]);
        for (found, expected) in corrected.iter().zip([0.06, 0.04, 0.06, 0.06]) {
            assert!((found - expected).abs() < 1e-12, "{corrected:?}");
        }
        assert_eq!(holm(&[0.9, 0.8]), [1.0, 1.0]);
    }

    #[test]
    fn spreads_are_mean_and_sample_deviation() {
        assert_eq!(Spread::of(&[1.0, 3.0]), Spread { mean: 2.0, deviation: 2f64.sqrt() });
        assert_eq!(Spread::of(&[5.0]).deviation, 0.0);
    }

    #[test]
    fn an_area_counts_pairs_in_the_right_order_and_ties_by_half() {
        let probabilities =
            |second: &[f64]| second.iter().flat_map(|p| [1.0 - p, *p]).collect::<Vec<_>>();
        assert_eq!(auroc(&probabilities(&[0.1, 0.4, 0.35, 0.8]), &[0, 0, 1, 1], 2), Some(0.75));
        assert_eq!(auroc(&probabilities(&[0.5, 0.5, 0.5]), &[0, 1, 1], 2), Some(0.5));
        assert_eq!(auroc(&probabilities(&[0.5, 0.5]), &[1, 1], 2), None);
        assert_eq!(auroc(&[0.8, 0.1, 0.1, 0.1, 0.8, 0.1, 0.1, 0.1, 0.8], &[0, 1, 2], 3), Some(1.0));
    }

    #[test]
    fn p_is_the_share_of_sign_assignments_as_extreme() {
        assert_eq!(sign_flip_p(&[1.0, 2.0, 3.0]), 0.25);
        assert_eq!(sign_flip_p(&[0.0, 0.0]), 1.0);
        assert_eq!(sign_flip_p(&[0.1; 10]), 2.0 / 1024.0);
        // Sums 4, 2, 2, 0 in size, of eight assignments: six are 2 or more.
        assert_eq!(sign_flip_p(&[1.0, 2.0, -1.0]), 0.75);
    }

    #[test]
    fn many_pairs_are_tested_with_drawn_signs() {
        assert!(sign_flip_p(&[0.1; 30]) < 1e-3);
        let balanced: Vec<f64> = (0..30).map(|i| if i % 2 == 0 { 0.1 } else { -0.1 }).collect();
        assert!(sign_flip_p(&balanced) > 0.9);
    }
}
