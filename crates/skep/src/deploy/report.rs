//! What people see of a deploy.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicUsize, Ordering};

use skep_deploy::{Failure, Outcome, Planned, Reporter};

use crate::terminal::{Style, paint, printable, say};

/// Prints steps, and a bar for what is uploaded if standard error is a terminal.
pub struct Terminal {
    steps: usize,
    at: AtomicUsize,
    quiet: bool,
    bar: bool,
}

impl Terminal {
    /// For `steps` steps; `quiet` prints nothing but notes, on standard error.
    pub fn new(steps: usize, quiet: bool) -> Self {
        let bar = !quiet && std::io::stderr().is_terminal();
        Self { steps, at: AtomicUsize::new(0), quiet, bar }
    }

    /// Removes what is not finished.
    pub fn finish(&self) {
        self.clear();
    }

    fn clear(&self) {
        if self.bar {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

impl Reporter for Terminal {
    fn begins(&self, planned: &Planned) {
        let at = self.at.fetch_add(1, Ordering::Relaxed) + 1;
        if self.bar {
            let _ =
                write!(std::io::stderr(), "\r\x1b[K[{at}/{}] {} …", self.steps, printable(&planned.subject));
        }
    }

    fn progress(&self, done: u64, total: u64) {
        const WIDTH: u64 = 30;
        if self.bar && total > 0 {
            let full = usize::try_from(done.min(total) * WIDTH / total).unwrap_or(0);
            let rest = WIDTH as usize - full;
            let bar = format!("{}{}", "━".repeat(full), "╌".repeat(rest));
            let _ = write!(std::io::stderr(), "\r\x1b[K{bar} {} %", done.min(total) * 100 / total);
        }
    }

    fn done(&self, planned: &Planned, detail: &str) {
        self.clear();
        if !self.quiet {
            let text = format!(
                "{} {}  {}",
                paint(Style::Green, "✓"),
                planned.subject,
                paint(Style::Dim, &printable(detail))
            );
            say(text.trim_end());
        }
    }

    fn note(&self, text: &str) {
        self.clear();
        let line = paint(Style::Yellow, &format!("▲ {}", printable(text)));
        match self.quiet {
            true => eprintln!("{line}"),
            false => say(&line),
        }
    }
}

/// Where it answers.
pub fn outcome(outcome: &Outcome) {
    if outcome.done.is_empty() {
        say("Nothing had to change.");
    }
    if let Some(version) = &outcome.version {
        say(&format!("Current version: {version}"));
    }
    for url in &outcome.urls {
        say(&format!("  {}", paint(Style::Bold, url)));
    }
}

/// What was done, what not, and how to go on.
pub fn failure(failure: &Failure) -> String {
    let mut text = match &failure.failed {
        Some((step, error)) => format!("{step}: {}", printable(error)),
        None => "the deploy was stopped".to_owned(),
    };
    let list = |text: &mut String, title: &str, steps: &[String]| {
        if !steps.is_empty() {
            text.push_str(&format!("\n  {title}: {}", steps.join(", ")));
        }
    };
    list(&mut text, "done", &failure.done);
    list(&mut text, "not done", &failure.open);
    text.push_str("\n  `skep deploy` again goes on from here: what is done is not done twice");
    text
}
