//! Which rules count: the user's, then wrangler's own, each kind up to the first rule that does not fall through.

use crate::message::BuildMessage;
use crate::options::{Rule, RuleKind};

/// Rules in their order.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    /// Those that count.
    pub active: Vec<Rule>,
    /// Those that an earlier rule of their kind has shut out.
    pub removed: Vec<Rule>,
    /// What is doubtful about them.
    pub warnings: Vec<BuildMessage>,
}

fn defaults() -> [Rule; 3] {
    let rule = |kind, globs: &[&str]| Rule {
        kind,
        globs: globs.iter().map(|glob| (*glob).to_owned()).collect(),
        fallthrough: None,
    };
    [
        rule(RuleKind::Text, &["**/*.txt", "**/*.html", "**/*.sql"]),
        rule(RuleKind::Data, &["**/*.bin"]),
        rule(RuleKind::CompiledWasm, &["**/*.wasm", "**/*.wasm?module"]),
    ]
}

/// The rules that count: those of `user`, then wrangler's own, each kind up to the first that does not fall through.
pub fn active_rules(user: &[Rule]) -> Vec<Rule> {
    parse(user).active
}

/// Sorts them.
pub(crate) fn parse(user: &[Rule]) -> Rules {
    let mut rules = Rules::default();
    let mut closed: Vec<(Rule, Vec<String>)> = Vec::new();
    let all = user.iter().cloned().map(|rule| (rule, "")).chain(defaults().map(|rule| (rule, " (DEFAULT)")));
    for (rule, by) in all {
        if let Some((first, ignored)) = closed.iter_mut().find(|(first, _)| first.kind == rule.kind) {
            if first.fallthrough != Some(false) {
                ignored.push(format!("\n {}{by}", shown(&rule)));
            }
            rules.removed.push(rule);
            continue;
        }
        if rule.fallthrough != Some(true) {
            closed.push((rule.clone(), Vec::new()));
        }
        rules.active.push(rule);
    }
    for (rule, ignored) in closed.iter().filter(|(_, ignored)| !ignored.is_empty()) {
        rules.warnings.push(BuildMessage::plain(format!(
            "The module rule {} does not have a fallback, the following rules will be ignored:{}\n\nAdd \
             `fallthrough = true` to rule to allow next rule to be used or `fallthrough = false` to silence this \
             warning",
            shown(rule),
            ignored.concat()
        )));
    }
    rules
}

/// The rule as JSON.
pub(crate) fn shown(rule: &Rule) -> String {
    let mut value = serde_json::json!({ "type": rule.kind.name(), "globs": rule.globs });
    if let Some(fallthrough) = rule.fallthrough {
        value["fallthrough"] = fallthrough.into();
    }
    value.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(fallthrough: Option<bool>) -> Rule {
        Rule { kind: RuleKind::Text, globs: vec!["**/*.md".into()], fallthrough }
    }

    #[test]
    fn a_rule_shuts_out_the_defaults_of_its_kind_unless_it_falls_through() {
        let rules = parse(&[text(None)]);
        assert_eq!((rules.active.len(), rules.removed.len(), rules.warnings.len()), (3, 1, 1));
        assert!(rules.warnings[0].text.contains("(DEFAULT)"), "{}", rules.warnings[0].text);
        assert_eq!(parse(&[text(Some(false))]).warnings, []);
        assert_eq!(parse(&[text(Some(true))]).active.len(), 4);
    }
}
