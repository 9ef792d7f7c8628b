//! Modules that are no code, by the endings of their names.

use skep_bundle::{Rule, RuleKind, active_rules};

/// One declaration per ending that a rule names, the first rule counting.
///
/// TypeScript knows one `*` and no folders: a rule for a folder alone is declared by its ending.
pub fn declarations(rules: &[Rule]) -> Vec<String> {
    let mut all: Vec<(String, &'static str)> = Vec::new();
    for rule in active_rules(rules) {
        let kind = match rule.kind {
            RuleKind::CompiledWasm => "WebAssembly.Module",
            RuleKind::Data => "ArrayBuffer",
            RuleKind::Text => "string",
            RuleKind::EsModule | RuleKind::CommonJs => continue,
        };
        for glob in &rule.globs {
            let pattern = match glob.rsplit_once('*') {
                Some((_, ending)) => format!("*{ending}"),
                None => glob.clone(),
            };
            if !all.iter().any(|(known, _)| *known == pattern) {
                all.push((pattern, kind));
            }
        }
    }
    let declare = |(pattern, kind): &(String, &str)| {
        format!("declare module \"{pattern}\" {{\n\tconst value: {kind};\n\texport default value;\n}}")
    };
    all.iter().map(declare).collect()
}
