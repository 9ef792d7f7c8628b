//! The text that Prometheus reads, format 0.0.4.
//! <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>

use std::fmt::{Display, Write};

/// The text under construction.
#[derive(Debug, Default)]
pub struct Page(String);

/// What kind of numbers a family has.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// Names and values of labels.
pub type Labels<'a> = [(&'a str, &'a str)];

impl Page {
    /// Begins a family of series; all of its samples follow at once.
    pub fn family<'a>(&'a mut self, name: &'a str, kind: Kind, help: &str) -> Family<'a> {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        Family { text: &mut self.0, name }
    }

    /// The text.
    pub fn finish(self) -> String {
        self.0
    }
}

/// One family of series.
pub struct Family<'a> {
    text: &'a mut String,
    name: &'a str,
}

impl Family<'_> {
    /// One sample.
    pub fn sample(&mut self, labels: &Labels<'_>, value: impl Display) {
        self.part("", labels, None, value);
    }

    /// A histogram from the counts between its bounds, which are in seconds, and of what is beyond the last one.
    pub fn histogram(&mut self, labels: &Labels<'_>, bounds: &[f64], counts: &[u64], sum: f64) {
        let mut total = 0;
        for (n, count) in counts.iter().enumerate() {
            total += count;
            let bound = bounds.get(n).map_or_else(|| "+Inf".to_owned(), f64::to_string);
            self.part("_bucket", labels, Some(("le", &bound)), total);
        }
        self.part("_sum", labels, None, sum);
        self.part("_count", labels, None, total);
    }

    fn part(&mut self, suffix: &str, labels: &Labels<'_>, last: Option<(&str, &str)>, value: impl Display) {
        let _ = write!(self.text, "{}{suffix}", self.name);
        for (n, (name, value)) in labels.iter().copied().chain(last).enumerate() {
            let _ = write!(self.text, "{}{name}=\"{}\"", if n == 0 { '{' } else { ',' }, escape(value));
        }
        if !labels.is_empty() || last.is_some() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
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
