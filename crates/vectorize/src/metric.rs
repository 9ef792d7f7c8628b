//! How alike two vectors are.
//!
//! Stored numbers are little-endian 32 bit floats at any address. The loops have sixteen sums each, which the compiler keeps in
//! vector registers; the order of additions is therefore not that of the numbers.

use serde::{Deserialize, Serialize};

const LANES: usize = 16;

/// An index's metric. <https://developers.cloudflare.com/vectorize/best-practices/create-indexes/#distance-metrics>
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// From -1, most dissimilar, to 1.
    #[default]
    Cosine,
    /// The distance: 0 is identical.
    Euclidean,
    /// The negative dot product: less is more similar.
    DotProduct,
}

impl Metric {
    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cosine => "cosine",
            Self::Euclidean => "euclidean",
            Self::DotProduct => "dot-product",
        }
    }

    /// The metric with this name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Cosine, Self::Euclidean, Self::DotProduct].into_iter().find(|metric| metric.name() == name)
    }
}

/// A vector that others are compared with.
pub(crate) struct Probe<'a> {
    metric: Metric,
    values: &'a [f32],
    norm: f64,
}

impl<'a> Probe<'a> {
    pub fn new(metric: Metric, values: &'a [f32]) -> Self {
        Self { metric, values, norm: norm(values) }
    }

    /// How far a stored vector is away: the nearest has the least. `norm` is its own. Always a number.
    pub fn distance(&self, content: &[u8], norm: f64) -> f64 {
        match self.metric {
            Metric::Cosine if self.norm == 0.0 || norm == 0.0 => 0.0,
            Metric::Cosine => -(dot(self.values, content) / (self.norm * norm)).clamp(-1.0, 1.0),
            Metric::Euclidean => squares(self.values, content).sqrt(),
            Metric::DotProduct => -dot(self.values, content),
        }
    }

    /// What an application is shown of a distance.
    pub fn score(&self, distance: f64) -> f64 {
        // `0 -` and not a sign: there is no negative zero to show.
        if self.metric == Metric::Cosine { 0.0 - distance } else { distance + 0.0 }
    }
}

/// The length of a vector.
pub(crate) fn norm(values: &[f32]) -> f64 {
    values.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt()
}

/// A vector as it is stored.
pub(crate) fn stored(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// What was stored.
pub(crate) fn loaded(content: &[u8]) -> Vec<f32> {
    content.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
}

fn dot(a: &[f32], b: &[u8]) -> f64 {
    fold(a, b, |x, y| x * y, |x, y| x * y)
}

fn squares(a: &[f32], b: &[u8]) -> f64 {
    fold(a, b, |x, y| (x - y) * (x - y), |x, y| (x - y) * (x - y))
}

/// The sum of `each` pair. Where 32 bits do not hold it, 64 do.
#[inline(always)]
fn fold(a: &[f32], b: &[u8], each: impl Fn(f32, f32) -> f32, wide: impl Fn(f64, f64) -> f64) -> f64 {
    let (pairs_a, rest_a) = a.as_chunks::<LANES>();
    let (pairs_b, rest_b) = b.as_chunks::<{ LANES * 4 }>();
    let mut sums = [0.0f32; LANES];
    for (a, b) in pairs_a.iter().zip(pairs_b) {
        let (b, _) = b.as_chunks::<4>();
        for lane in 0..LANES {
            sums[lane] += each(a[lane], f32::from_le_bytes(b[lane]));
        }
    }
    let rest = rest_a.iter().zip(rest_b.as_chunks().0);
    let sum = sums.iter().sum::<f32>() + rest.map(|(&x, &y)| each(x, f32::from_le_bytes(y))).sum::<f32>();
    if sum.is_finite() {
        return f64::from(sum);
    }
    a.iter().zip(b.as_chunks().0).map(|(&x, &y)| wide(x.into(), f32::from_le_bytes(y).into())).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distance(metric: Metric, a: &[f32], b: &[f32]) -> f64 {
        Probe::new(metric, a).distance(&stored(b), norm(b))
    }

    #[test]
    fn scores_are_as_cloudflare_has_them() {
        let score = |metric, a: &[f32], b: &[f32]| Probe::new(metric, a).score(distance(metric, a, b));
        assert_eq!(score(Metric::Cosine, &[3.0, 4.0], &[6.0, 8.0]), 1.0);
        assert_eq!(score(Metric::Cosine, &[1.0, 0.0], &[-2.0, 0.0]), -1.0);
        assert!(score(Metric::Cosine, &[1.0, 0.0], &[0.0, 2.0]).is_sign_positive());
        assert_eq!(score(Metric::Cosine, &[0.0, 0.0], &[1.0, 1.0]), 0.0);
        assert_eq!(score(Metric::Euclidean, &[1.0, 1.0], &[4.0, 5.0]), 5.0);
        assert_eq!(score(Metric::DotProduct, &[1.0, 2.0], &[3.0, 4.0]), -11.0);
    }

    #[test]
    fn what_32_bits_do_not_hold_is_still_a_number() {
        let large = vec![f32::MAX; 40];
        assert!((distance(Metric::Cosine, &large, &large) + 1.0).abs() < 1e-9);
        let negative: Vec<f32> = large.iter().map(|v| -v).collect();
        assert!(distance(Metric::Euclidean, &large, &negative).is_finite());
        assert!(distance(Metric::DotProduct, &large, &negative).is_finite());
    }

    #[test]
    fn names_are_those_of_the_api() {
        for metric in [Metric::Cosine, Metric::Euclidean, Metric::DotProduct] {
            assert_eq!(Metric::parse(metric.name()), Some(metric));
            assert_eq!(serde_json::to_value(metric).unwrap(), metric.name());
        }
        assert_eq!(Metric::parse("manhattan"), None);
    }

    proptest::proptest! {
        #[test]
        fn sums_in_lanes_are_the_sum(pairs in proptest::collection::vec((-9.0f32..9.0, -9.0f32..9.0), 1..70)) {
            let (a, b): (Vec<f32>, Vec<f32>) = pairs.iter().copied().unzip();
            let naive: f64 = pairs.iter().map(|&(x, y)| f64::from(x) * f64::from(y)).sum();
            proptest::prop_assert!((distance(Metric::DotProduct, &a, &b) + naive).abs() < 1e-2);
            let naive: f64 = pairs.iter().map(|&(x, y)| (f64::from(x) - f64::from(y)).powi(2)).sum();
            proptest::prop_assert!((distance(Metric::Euclidean, &a, &b).powi(2) - naive).abs() < 1e-2);
            proptest::prop_assert_eq!(loaded(&stored(&a)), a);
        }
    }
}
