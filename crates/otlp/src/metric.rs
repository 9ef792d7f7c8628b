//! Metrics, as they are read: cumulative since the start.

use crate::proto::{self, CUMULATIVE, Data};
use crate::span::Attribute;

/// What is counted or measured, with all its series.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// As OpenTelemetry names it: without unit and `_total`.
    pub name: String,
    /// What it is.
    pub description: String,
    /// UCUM: `s`, `By`, `1`.
    pub unit: &'static str,
    /// The series.
    pub points: Vec<Point>,
}

/// One series.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// What tells it from the others.
    pub attributes: Vec<(String, String)>,
    /// Its value now.
    pub value: Value,
}

/// A number, or numbers.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Only grows.
    Counter(f64),
    /// Goes up and down.
    Gauge(f64),
    /// How many values lie between bounds, and beyond the last one.
    Histogram {
        /// Upper bounds.
        bounds: Vec<f64>,
        /// One more than bounds.
        counts: Vec<u64>,
        /// Of all values.
        sum: f64,
    },
}

impl Metric {
    /// `start` and `now` in nanoseconds since 1970.
    pub(crate) fn encoded(&self, start: u64, now: u64) -> proto::Metric {
        let attributes = |point: &Point| {
            point
                .attributes
                .iter()
                .map(|(key, value)| Attribute::text(key, value.as_str()).encoded())
                .collect()
        };
        let (mut numbers, mut histograms, mut gauge) = (Vec::new(), Vec::new(), false);
        for point in &self.points {
            match &point.value {
                Value::Counter(value) | Value::Gauge(value) => {
                    gauge = matches!(point.value, Value::Gauge(_));
                    numbers.push(proto::NumberPoint {
                        start_time_unix_nano: if gauge { 0 } else { start },
                        time_unix_nano: now,
                        value: Some(*value),
                        attributes: attributes(point),
                    });
                }
                Value::Histogram { bounds, counts, sum } => histograms.push(proto::HistogramPoint {
                    start_time_unix_nano: start,
                    time_unix_nano: now,
                    count: counts.iter().sum(),
                    sum: Some(*sum),
                    bucket_counts: counts.clone(),
                    explicit_bounds: bounds.clone(),
                    attributes: attributes(point),
                }),
            }
        }
        let data = match (histograms.is_empty(), gauge) {
            (false, _) => Data::Histogram(proto::Histogram { points: histograms, temporality: CUMULATIVE }),
            (true, true) => Data::Gauge(proto::Gauge { points: numbers }),
            (true, false) => {
                Data::Sum(proto::Sum { points: numbers, temporality: CUMULATIVE, monotonic: true })
            }
        };
        proto::Metric {
            name: self.name.clone(),
            description: self.description.clone(),
            unit: self.unit.to_owned(),
            data: Some(data),
        }
    }
}
