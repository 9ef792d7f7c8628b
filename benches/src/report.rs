//! The table, and the same as JSON.

use serde_json::{Value, json};

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
    /// Adds a figure that has to be at least `goal`.
    pub fn at_least(&mut self, what: &str, value: f64, goal: f64, unit: &str) {
        self.push(what, value, unit, format!("≥ {goal}"), value >= goal);
    }

    /// Adds a figure that has to be at most `goal`.
    pub fn at_most(&mut self, what: &str, value: f64, goal: f64, unit: &str) {
        self.push(what, value, unit, format!("≤ {goal}"), value <= goal);
    }

    /// Adds a figure without a goal.
    pub fn note(&mut self, what: &str, figure: String) {
        self.0.push(Line { what: what.into(), figure, goal: String::new(), reached: None });
    }

    fn push(&mut self, what: &str, value: f64, unit: &str, goal: String, reached: bool) {
        let figure = format!("{value:.2} {unit}").trim_end().to_owned();
        println!("{} {what}: {figure} (goal {goal})", if reached { "✔" } else { "✘" });
        self.0.push(Line { what: what.into(), figure, goal, reached: Some(reached) });
    }

    /// A Markdown table.
    pub fn markdown(&self) -> String {
        let rows = self.0.iter().map(|line| {
            let mark = line.reached.map_or("", |reached| if reached { "✔" } else { "✘" });
            format!("| {} | {} | {} | {mark} |\n", line.what, line.figure, line.goal)
        });
        format!("| what | figure | goal | |\n|---|---|---|---|\n{}", rows.collect::<String>())
    }

    /// The same as JSON.
    pub fn json(&self) -> Value {
        let lines = self.0.iter().map(|line| {
            json!({ "what": line.what, "figure": line.figure, "goal": line.goal, "reached": line.reached })
        });
        json!({ "format": 1, "lines": lines.collect::<Vec<_>>() })
    }
}
