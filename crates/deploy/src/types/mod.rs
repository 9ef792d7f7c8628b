//! TypeScript types of what a configuration gives to a worker: `Env`, `Cloudflare.Env`, modules by their endings. The result is
//! that of `wrangler types --include-runtime=false`. Pure.

mod bindings;
mod modules;

use serde_json::Value as Json;
use skep_bundle::{Format, Rule};

use bindings::{Entry, entries};
pub use modules::declarations;

/// What the types are made of.
#[derive(Clone, Debug)]
pub struct TypesInput<'a> {
    /// The whole configuration, with all its environments.
    pub file: &'a Json,
    /// One environment; without it all of them.
    pub environment: Option<&'a str>,
    /// The script's name.
    pub name: &'a str,
    /// How imports name the entry module; `None` for assets alone.
    pub module: Option<&'a str>,
    /// What it exports.
    pub exports: &'a [String],
    /// How it is run.
    pub format: Format,
    /// The interface's name, `Env` by default.
    pub interface: &'a str,
    /// Names of secrets in files for development; they count if no `secrets` are configured.
    pub secrets: &'a [String],
    /// Whether `process.env` has the variables.
    pub process_env: bool,
    /// The rules of the chosen environment.
    pub rules: &'a [Rule],
    /// Literal types of variables.
    pub strict_vars: bool,
}

/// The text, without its header.
pub fn types(input: &TypesInput<'_>) -> String {
    let environments: Vec<(&str, &Json)> = match input.file["env"].as_object() {
        Some(all) if input.environment.is_none() => {
            all.iter().map(|(name, own)| (name.as_str(), own)).collect()
        }
        _ => Vec::new(),
    };
    let mut strings: Vec<String> = Vec::new();
    let (lines, interfaces) = match environments.as_slice() {
        [] => {
            let own = match input.environment {
                Some(name) => &input.file["env"][name],
                None => input.file,
            };
            let all = entries(input, own, false);
            note_strings(&mut strings, &all);
            (all.iter().map(|entry| (key(&entry.name), true, entry.kind.clone())).collect(), String::new())
        }
        _ => every_environment(input, &environments, &mut strings),
    };
    let modules = declarations(input.rules);
    let base = match input.format {
        Format::Modules => module_types(input, &lines, &interfaces, &strings),
        Format::ServiceWorker => {
            let line = |(key, _, kind): &(String, bool, String)| format!("declare const {key}: {kind};");
            lines.iter().map(line).collect::<Vec<_>>().join("\n")
        }
    };
    [base, modules.join("\n")].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n")
}

fn note_strings(strings: &mut Vec<String>, all: &[Entry]) {
    for entry in all.iter().filter(|entry| entry.is_variable) {
        if !strings.contains(&entry.name) {
            strings.push(entry.name.clone());
        }
    }
}

/// One line of an interface: the key, whether it is always there, the type.
type Line = (String, bool, String);

/// The lines of all environments together, and an interface for each.
fn every_environment(
    input: &TypesInput<'_>,
    environments: &[(&str, &Json)],
    strings: &mut Vec<String>,
) -> (Vec<Line>, String) {
    let mut together: Vec<(String, Vec<String>, usize)> = Vec::new();
    let mut interfaces = String::new();
    let mut track = |all: &[Entry]| {
        let mut met: Vec<&str> = Vec::new();
        for entry in all {
            let at = together.iter().position(|(name, ..)| *name == entry.name).unwrap_or_else(|| {
                together.push((entry.name.clone(), Vec::new(), 0));
                together.len() - 1
            });
            let Some((_, kinds, count)) = together.get_mut(at) else { continue };
            if !kinds.contains(&entry.kind) {
                kinds.push(entry.kind.clone());
            }
            if !met.contains(&entry.name.as_str()) {
                met.push(&entry.name);
                *count += 1;
            }
        }
    };
    for (name, own) in environments {
        let all = entries(input, own, true);
        note_strings(strings, &all);
        track(&all);
        let lines: Vec<String> =
            all.iter().map(|entry| format!("\t\t{}: {};", key(&entry.name), entry.kind)).collect();
        let name = interface_name(name);
        interfaces.push_str(&match lines.is_empty() {
            true => format!("\n\tinterface {name} {{}}"),
            false => format!("\n\tinterface {name} {{\n{}\n\t}}", lines.join("\n")),
        });
    }
    let top = entries(input, input.file, true);
    note_strings(strings, &top);
    track(&top);
    let all = environments.len() + 1;
    let line =
        |(name, kinds, count): &(String, Vec<String>, usize)| (key(name), *count == all, kinds.join(" | "));
    (together.iter().map(line).collect(), interfaces)
}

fn module_types(input: &TypesInput<'_>, lines: &[Line], interfaces: &str, strings: &[String]) -> String {
    let own = input.interface;
    let base = format!("__BaseEnv_{own}");
    let lines: String = lines
        .iter()
        .map(|(key, always, kind)| format!("\n\t{key}{}: {kind};", if *always { "" } else { "?" }))
        .collect();
    let mut props = String::new();
    if let Some(module) = input.module {
        props.push_str(&format!("\n\t\tmainModule: typeof import(\"{module}\");"));
    }
    let classes = classes(&resolved(input, "migrations"), &resolved(input, "exports"));
    if !classes.is_empty() {
        let names: Vec<String> = classes.iter().map(|class| format!("\"{class}\"")).collect();
        props.push_str(&format!("\n\t\tdurableNamespaces: {};", names.join(" | ")));
    }
    if !props.is_empty() {
        props = format!("\n\tinterface GlobalProps {{{props}\n\t}}");
    }
    let mut text = format!(
        "interface {base} {{{lines}\n}}\ndeclare namespace Cloudflare {{{props}{interfaces}\n\tinterface Env extends {base} \
         {{}}\n}}\ninterface {own} extends {base} {{}}"
    );
    if input.process_env && !strings.is_empty() {
        let names: Vec<String> = strings.iter().map(|name| format!("\"{name}\"")).collect();
        text.push_str(&format!(
            "\ntype StringifyValues<EnvType extends Record<string, unknown>> = {{\n\t[Binding in keyof EnvType]: \
             EnvType[Binding] extends string ? EnvType[Binding] : string;\n}};\ndeclare namespace NodeJS {{\n\tinterface \
             ProcessEnv extends StringifyValues<Pick<Cloudflare.Env, {}>> {{}}\n}}",
            names.join(" | ")
        ));
    }
    text
}

/// A key that environments take over from the top.
fn resolved(input: &TypesInput<'_>, key: &str) -> Json {
    let own = input.environment.map(|name| &input.file["env"][name][key]).filter(|own| !own.is_null());
    own.unwrap_or(&input.file[key]).clone()
}

/// The classes that exist after all migrations, in the order in which they came, or that `exports` declares.
fn classes(migrations: &Json, exports: &Json) -> Vec<String> {
    let mut alive: Vec<String> = Vec::new();
    let texts = |list: &Json| -> Vec<String> {
        list.as_array().into_iter().flatten().filter_map(|own| own.as_str().map(str::to_owned)).collect()
    };
    for migration in migrations.as_array().into_iter().flatten() {
        let gone = texts(&migration["deleted_classes"]);
        alive.retain(|class| !gone.contains(class));
        for renamed in migration["renamed_classes"].as_array().into_iter().flatten() {
            alive.retain(|class| renamed["from"] != class.as_str());
            alive.extend(renamed["to"].as_str().map(str::to_owned));
        }
        alive.extend(texts(&migration["new_classes"]));
        alive.extend(texts(&migration["new_sqlite_classes"]));
    }
    for (class, export) in exports.as_object().into_iter().flatten() {
        let is_live = matches!(export["state"].as_str(), None | Some("created" | "expecting-transfer"));
        if export["type"] == "durable-object" && is_live {
            alive.push(class.clone());
        }
    }
    alive
}

/// A name as a key of an interface.
fn key(name: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '$';
    let is_identifier =
        name.chars().all(allowed) && !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit());
    if is_identifier { name.to_owned() } else { Json::from(name).to_string() }
}

/// `my-staging` to `MyStagingEnv`.
fn interface_name(environment: &str) -> String {
    let words = environment.split(['-', '_']).filter(|word| !word.is_empty());
    let name: String = words
        .map(|word| {
            let mut letters = word.chars();
            letters
                .next()
                .map(|first| first.to_uppercase().collect::<String>() + &letters.as_str().to_lowercase())
                .unwrap_or_default()
        })
        .collect();
    if name.ends_with("Env") { name } else { format!("{name}Env") }
}
