//! Which engine a binary is.

use std::path::PathBuf;
use std::process::Command;

use crate::ToolchainError;

/// The first release without known memory-safety bugs.
const OLDEST: &str = "2026-06-19";

/// Passes on the path of an engine that is new enough.
pub(crate) fn check_engine(path: PathBuf) -> Result<PathBuf, ToolchainError> {
    let said = match Command::new(&path).arg("--version").output() {
        Ok(output) => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    match date(&said) {
        None => Err(ToolchainError::NotAnEngine { path, said }),
        Some(found) if found < OLDEST => {
            Err(ToolchainError::TooOld { found: found.to_owned(), path, pinned: "20261117.1" })
        }
        Some(_) => Ok(path),
    }
}

/// The date in `workerd 2026-11-17`.
fn date(said: &str) -> Option<&str> {
    let date = said.strip_prefix("workerd ")?.split_whitespace().next()?;
    let shape = date.len() == 10
        && date.bytes().enumerate().all(|(n, b)| match n {
            4 | 7 => b == b'-',
            _ => b.is_ascii_digit(),
        });
    shape.then_some(date)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_engines_answer_is_a_date() {
        assert_eq!(date("workerd 2026-11-17"), Some("2026-11-17"));
        for other in ["", "workerd", "workerd 1.2", "GNU bash 2026-11-17", "workerd é026-11-17"] {
            assert_eq!(date(other), None);
        }
        assert!(date("workerd 2026-06-18") < Some(OLDEST));
    }
}
