//! Compatibility dates that the engine has.

use std::time::SystemTime;

/// The date of the engine that Skep pins: what a project without `compatibility_date` gets.
pub const ENGINE_DATE: &str = "2026-11-17";
/// The newest date that it accepts: a week after its own.
const NEWEST: &str = "2026-11-24";

/// Today in UTC, `YYYY-MM-DD`.
pub fn today() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string().chars().take(10).collect()
}

/// The date to run a worker with that asks for `asked`: the engine refuses dates that it does not know yet, and
/// dates after `today`.
pub fn supported(asked: Option<&str>, today: &str) -> String {
    let newest = NEWEST.min(today);
    asked.unwrap_or(ENGINE_DATE).min(newest).to_owned()
}

/// What is to be said where that is another date.
pub fn warning(asked: Option<&str>, supported: &str) -> Option<String> {
    match asked {
        None => Some(format!(
            "No compatibility_date was specified. Using the engine's date: {supported}.\n\
             Add \"compatibility_date\": \"{supported}\" to your configuration to keep it."
        )),
        Some(asked) if asked != supported => Some(format!(
            "The latest compatibility date supported by the installed Cloudflare Workers Runtime is \"{supported}\",\n\
             but you've requested \"{asked}\". Falling back to \"{supported}\"..."
        )),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_after_the_engines_falls_back() {
        assert_eq!(supported(Some("2025-01-01"), "2026-12-24"), "2025-01-01");
        assert_eq!(supported(Some("2027-01-01"), "2027-12-24"), NEWEST);
        assert_eq!(supported(Some("2026-11-24"), "2026-11-23"), "2026-11-23");
        assert_eq!(supported(None, "2026-12-24"), ENGINE_DATE);
        assert_eq!(warning(Some("2025-01-01"), "2025-01-01"), None);
        assert!(warning(Some("2027-01-01"), NEWEST).unwrap().contains("Falling back"));
    }

    #[test]
    fn today_is_a_date() {
        assert_eq!(today().len(), 10);
    }
}
