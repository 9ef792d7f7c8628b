//! The text that Prometheus reads, format 0.0.4.
//! <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>

use std::fmt::{Display, Write};

use skep_otlp::{Metric, Point, Value};

/// Families of series, under construction.
#[derive(Debug, Default)]
pub struct Page(Vec<Series>);

/// What kind of numbers a family has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// Names and values of labels.
pub type Labels<'a> = [(&'a str, &'a str)];

/// A family with all of its samples.
#[derive(Debug)]
struct Series {
    name: String,
    kind: Kind,
    help: String,
    samples: Vec<Sample>,
}

#[derive(Debug)]
struct Sample {
    labels: Vec<(String, String)>,
    value: Number,
}

#[derive(Debug)]
enum Number {
    /// As it is shown.
    One(String),
    /// Bounds, counts between them and beyond, the sum of all values.
    Histogram(Vec<f64>, Vec<u64>, f64),
}

impl Page {
    /// Begins a family of series; all of its samples follow at once.
    pub fn family(&mut self, name: &str, kind: Kind, help: &str) -> Family<'_> {
        self.0.push(Series { name: name.to_owned(), kind, help: help.to_owned(), samples: Vec::new() });
        Family(self.0.last_mut().map(|series| &mut series.samples))
    }

    /// The text.
    pub fn finish(self) -> String {
        let mut text = String::new();
        for series in self.0 {
            let kind = match series.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram => "histogram",
            };
            let name = &series.name;
            let _ = write!(text, "# HELP {name} {}\n# TYPE {name} {kind}\n", series.help);
            for sample in &series.samples {
                sample.write(name, &mut text);
            }
        }
        text
    }

    /// The same for a collector: names without what Prometheus puts behind them.
    /// <https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/>
    pub fn metrics(self) -> Vec<Metric> {
        let metrics = self.0.into_iter().map(|series| {
            let name = series.name.strip_suffix("_total").unwrap_or(&series.name);
            let (name, unit) = match (name.strip_suffix("_seconds"), name.strip_suffix("_bytes")) {
                (Some(name), _) => (name, "s"),
                (_, Some(name)) => (name, "By"),
                _ => (name, ""),
            };
            let points = series.samples.into_iter().filter_map(|sample| {
                let value = match (sample.value, series.kind) {
                    (Number::One(text), Kind::Counter) => Value::Counter(text.parse().ok()?),
                    (Number::One(text), _) => Value::Gauge(text.parse().ok()?),
                    (Number::Histogram(bounds, counts, sum), _) => Value::Histogram { bounds, counts, sum },
                };
                Some(Point { attributes: sample.labels, value })
            });
            Metric { name: name.to_owned(), description: series.help, unit, points: points.collect() }
        });
        metrics.collect()
    }
}

/// One family of series.
pub struct Family<'a>(Option<&'a mut Vec<Sample>>);

impl Family<'_> {
    /// One sample.
    pub fn sample(&mut self, labels: &Labels<'_>, value: impl Display) {
        self.push(labels, Number::One(value.to_string()));
    }

    /// A histogram from the counts between its bounds, which are in seconds, and of what is beyond the last one.
    pub fn histogram(&mut self, labels: &Labels<'_>, bounds: &[f64], counts: &[u64], sum: f64) {
        self.push(labels, Number::Histogram(bounds.to_vec(), counts.to_vec(), sum));
    }

    fn push(&mut self, labels: &Labels<'_>, value: Number) {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        if let Some(samples) = &mut self.0 {
            samples.push(Sample { labels, value });
        }
    }
}

impl Sample {
    fn write(&self, name: &str, text: &mut String) {
        match &self.value {
            Number::One(value) => self.part(text, name, "", None, value),
            Number::Histogram(bounds, counts, sum) => {
                let mut total = 0;
                for (n, count) in counts.iter().enumerate() {
                    total += count;
                    let bound = bounds.get(n).map_or_else(|| "+Inf".to_owned(), f64::to_string);
                    self.part(text, name, "_bucket", Some(("le", &bound)), total);
                }
                self.part(text, name, "_sum", None, sum);
                self.part(text, name, "_count", None, total);
            }
        }
    }

    fn part(
        &self,
        text: &mut String,
        name: &str,
        suffix: &str,
        last: Option<(&str, &str)>,
        value: impl Display,
    ) {
        let _ = write!(text, "{name}{suffix}");
        let labels = self.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (n, (name, value)) in labels.chain(last).enumerate() {
            let _ = write!(text, "{}{name}=\"{}\"", if n == 0 { '{' } else { ',' }, escape(value));
        }
        if !self.labels.is_empty() || last.is_some() {
            text.push('}');
        }
        let _ = writeln!(text, " {value}");
    }
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_families_labels_and_cumulative_buckets() {
        let mut page = Page::default();
        page.family("a_total", Kind::Counter, "All a.").sample(&[("x", "1\n\"\\")], 3);
        page.family("b", Kind::Gauge, "A b.").sample(&[], 0.5);
        page.family("c", Kind::Histogram, "C.").histogram(&[("s", "t")], &[0.1, 1.0], &[2, 0, 1], 4.5);
        let expected = "# HELP a_total All a.\n# TYPE a_total counter\na_total{x=\"1\\n\\\"\\\\\"} 3\n\
             # HELP b A b.\n# TYPE b gauge\nb 0.5\n# HELP c C.\n# TYPE c histogram\n\
             c_bucket{s=\"t\",le=\"0.1\"} 2\nc_bucket{s=\"t\",le=\"1\"} 2\nc_bucket{s=\"t\",le=\"+Inf\"} 3\n\
             c_sum{s=\"t\"} 4.5\nc_count{s=\"t\"} 3\n";
        assert_eq!(page.finish(), expected);
    }
}
