//! Medians, percentiles and spread: the only statistics the bench uses.
//!
//! A median of at least three rounds and the distance between the extremes, because the machines this runs on drift
//! by 5 to 10 % and a mean hides which round was disturbed. Must never drop a round silently: a round is repeated
//! before it is counted, or it is counted.

/// Middle value; the mean of the two middle ones for an even count; None for no values.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        even if even % 2 == 0 => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
        _ => Some(sorted[middle]),
    }
}

/// Half the distance between the extremes, in percent of the median: the `±` of a figure.
pub fn spread_percent(values: &[f64]) -> f64 {
    let Some(middle) = median(values).filter(|middle| *middle > 0.0) else { return 0.0 };
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(0.0, f64::max);
    (high - low) / 2.0 / middle * 100.0
}

/// The smallest of the ascending `sorted` values that at least `percent` of them do not exceed; 0 for none.
pub fn percentile(sorted: &[f64], percent: f64) -> f64 {
    // 99.9 % of 1,000 is 999 and a trace: without taking that off it would be the 1,000th.
    let rank = (percent / 100.0 * sorted.len() as f64 - 1e-9).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_percentiles() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(spread_percent(&[90.0, 100.0, 110.0]), 10.0);
        let thousand: Vec<f64> = (1..=1000).map(f64::from).collect();
        assert_eq!(percentile(&thousand, 50.0), 500.0);
        assert_eq!(percentile(&thousand, 99.9), 999.0);
        assert_eq!(percentile(&[], 50.0), 0.0);
    }
}
