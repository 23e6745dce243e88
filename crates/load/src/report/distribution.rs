//! Percentiles and histogram of latencies. All latencies are kept, four bytes each, so that
//! percentiles are exact.

use serde::Serialize;

/// Milliseconds; absent when nothing was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Percentiles {
    pub count: usize,
    pub mean: Option<f64>,
    pub p50: Option<f64>,
    pub p90: Option<f64>,
    pub p95: Option<f64>,
    pub p99: Option<f64>,
    #[serde(rename = "p99.9")]
    pub p999: Option<f64>,
    pub max: Option<f64>,
}

impl Percentiles {
    /// Computes the percentiles of sorted microseconds.
    pub(super) fn of(sorted: &[u32]) -> Self {
        let at = |share| percentile(sorted, share).map(ms);
        let sum: u64 = sorted.iter().map(|&us| u64::from(us)).sum();
        Self {
            count: sorted.len(),
            mean: (!sorted.is_empty()).then(|| sum as f64 / sorted.len() as f64 / 1e3),
            p50: at(0.5),
            p90: at(0.9),
            p95: at(0.95),
            p99: at(0.99),
            p999: at(0.999),
            max: at(1.0),
        }
    }
}

/// The number of latencies from `from_ms` (included) to `to_ms` (excluded).
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Bin {
    pub from_ms: f64,
    pub to_ms: f64,
    pub count: usize,
}

/// Bins per doubling.
const BINS_PER_OCTAVE: f64 = 8.0;

/// Returns the smallest value that at least this share of the values do not exceed: a measured one,
/// not an interpolated one.
pub(super) fn percentile(sorted: &[u32], share: f64) -> Option<u32> {
    // What rounding leaves above a whole rank is not a rank more: 0.999 of 1000 is 999.
    let rank = (share * sorted.len() as f64 - 1e-9).ceil().max(1.0) as usize;
    sorted.get(rank - 1).copied()
}

pub(super) fn ms(micros: u32) -> f64 {
    f64::from(micros) / 1e3
}

pub(super) fn sorted(values: &[u32]) -> Vec<u32> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted
}

/// Counts the values in adjacent bins that grow by a constant factor.
pub(super) fn bins(sorted: &[u32]) -> Vec<Bin> {
    let (Some(&first), Some(&last)) = (sorted.first(), sorted.last()) else { return Vec::new() };
    let place = |us: u32| (f64::from(us.max(1)).log2() * BINS_PER_OCTAVE).floor() as i32;
    let bound = |place: i32| (f64::from(place) / BINS_PER_OCTAVE).exp2() / 1e3;
    let lowest = place(first);
    let mut bins: Vec<Bin> = (lowest..=place(last))
        .map(|place| Bin { from_ms: bound(place), to_ms: bound(place + 1), count: 0 })
        .collect();
    for &us in sorted {
        bins[(place(us) - lowest) as usize].count += 1;
    }
    bins
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_measured_values() {
        let thousand: Vec<u32> = (1..=1_000).collect();
        let ranks = [
            (0.5, 500),
            (0.9, 900),
            (0.95, 950),
            (0.99, 990),
            (0.999, 999),
            (1.0, 1_000),
            (0.0, 1),
        ];
        for (share, value) in ranks {
            assert_eq!(percentile(&thousand, share), Some(value), "{share}");
        }
        assert_eq!((percentile(&[7], 0.5), percentile(&[7], 0.999)), (Some(7), Some(7)));
        assert_eq!((percentile(&[1, 2], 0.5), percentile(&[1, 2, 3], 0.5)), (Some(1), Some(2)));
        assert_eq!(percentile(&[], 0.5), None);
        assert_eq!(Percentiles::of(&[]), Percentiles::default());
        assert_eq!(Percentiles::of(&[1_000, 3_000]).mean, Some(2.0));
    }

    #[test]
    fn every_latency_is_in_one_bin() {
        let latencies = sorted(&[0, 1, 900, 1_000, 1_001, 5_000_000, u32::MAX]);
        let bins = bins(&latencies);
        assert_eq!(bins.iter().map(|bin| bin.count).sum::<usize>(), latencies.len());
        assert!(bins.windows(2).all(|pair| pair[0].to_ms == pair[1].from_ms));
        let holding_a_second =
            bins.iter().find(|bin| bin.from_ms <= 5_000.0 && 5_000.0 < bin.to_ms).unwrap();
        assert_eq!(holding_a_second.count, 1);
    }
}
