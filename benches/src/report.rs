//! The table, and the same as JSON.

use serde_json::{Value, json};

use crate::stats::Spread;

const START: &str = "<!-- the last result; written by the benchmark -->";
const END: &str = "<!-- end of the last result -->";

/// One line of the report.
#[derive(Clone, Debug)]
pub struct Line {
    /// What was measured.
    pub what: String,
    /// The figure, with its unit.
    pub figure: String,
    /// The goal, in words.
    pub goal: String,
    /// Whether it was reached; `None` where there is no goal.
    pub reached: Option<bool>,
}

/// All lines, in order.
#[derive(Clone, Debug, Default)]
pub struct Report(pub Vec<Line>);

impl Report {
    /// Adds a figure whose median has to be at least `goal`.
    pub fn at_least(&mut self, what: &str, value: Spread, goal: f64, unit: &str) {
        self.add(what, shown(value, unit), format!("≥ {goal}{}", spaced(unit)), Some(value.median >= goal));
    }

    /// Adds a figure whose median has to be at most `goal`.
    pub fn at_most(&mut self, what: &str, value: Spread, goal: f64, unit: &str) {
        self.add(what, shown(value, unit), format!("≤ {goal}{}", spaced(unit)), Some(value.median <= goal));
    }

    /// Adds a figure without a goal.
    pub fn note(&mut self, what: &str, value: Spread, unit: &str) {
        self.add(what, shown(value, unit), String::new(), None);
    }

    fn add(&mut self, what: &str, figure: String, goal: String, reached: Option<bool>) {
        println!("{} {what}: {figure}  {goal}", mark(reached));
        self.0.push(Line { what: what.into(), figure, goal, reached });
    }

    /// A Markdown table.
    pub fn markdown(&self) -> String {
        let rows = self.0.iter().map(|line| {
            format!("| {} | {} | {} | {} |\n", line.what, line.figure, line.goal, mark(line.reached).trim())
        });
        format!("| what | median (range) | goal | |\n|---|---|---|---|\n{}", rows.collect::<String>())
    }

    /// `readme` with this table instead of the one between its markers.
    pub fn replace_in(&self, readme: &str, machine: &str) -> String {
        let table = format!("{START}\n{machine}:\n\n{}{END}", self.markdown());
        match (readme.split_once(START), readme.split_once(END)) {
            (Some((before, _)), Some((_, after))) => format!("{before}{table}{after}"),
            _ => format!("{readme}\n{table}\n"),
        }
    }

    /// The same as JSON, with what the machine is.
    pub fn json(&self, machine: &str) -> Value {
        let lines = self.0.iter().map(|line| {
            json!({ "what": line.what, "figure": line.figure, "goal": line.goal, "reached": line.reached })
        });
        json!({ "format": 1, "machine": machine, "lines": lines.collect::<Vec<_>>() })
    }
}

fn mark(reached: Option<bool>) -> &'static str {
    match reached {
        Some(true) => "✔",
        Some(false) => "✘",
        None => " ",
    }
}

fn spaced(unit: &str) -> String {
    if unit.is_empty() { String::new() } else { format!(" {unit}") }
}

/// `1.23 ms (1.10–1.50)`; the range only where there is one.
fn shown(value: Spread, unit: &str) -> String {
    let digits = |value: f64| match value.abs() {
        v if v >= 1000.0 => format!("{value:.0}"),
        v if v >= 20.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    };
    let median = format!("{}{}", digits(value.median), spaced(unit));
    if value.min == value.max {
        return median;
    }
    format!("{median} ({}–{})", digits(value.min), digits(value.max))
}
