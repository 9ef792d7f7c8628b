//! `.dev.vars` and `.env`: variables that are not in the configuration.
//! <https://developers.cloudflare.com/workers/configuration/secrets/#local-development-with-secrets>

use std::collections::BTreeMap;
use std::path::Path;

use crate::expand;

/// Reads the variables for `environment` from `dir`, as wrangler does: `.dev.vars.<environment>`, else `.dev.vars`;
/// where there is neither, all of `.env`, `.env.local`, `.env.<environment>`, `.env.<environment>.local`, the later
/// ones over the earlier.
pub(crate) fn read(
    dir: &Path,
    environment: Option<&str>,
    surroundings: &Surroundings,
) -> BTreeMap<String, String> {
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).ok();
    let dev_vars =
        environment.and_then(|name| read(&format!(".dev.vars.{name}"))).or_else(|| read(".dev.vars"));
    if let Some(text) = dev_vars {
        return parse(&text);
    }
    if !surroundings.dot_env {
        return BTreeMap::new();
    }
    let mut names = vec![".env".to_owned(), ".env.local".to_owned()];
    names.extend(environment.iter().flat_map(|e| [format!(".env.{e}"), format!(".env.{e}.local")]));
    let parsed = names.iter().filter_map(|name| read(name)).flat_map(|text| parse(&text)).collect();
    let mut all = expand::expand(&parsed, &surroundings.included);
    all.extend(surroundings.included.clone());
    all
}

/// What this process's own variables do to those in files.
/// <https://developers.cloudflare.com/workers/wrangler/system-environment-variables/>
#[derive(Debug, Default)]
pub(crate) struct Surroundings {
    /// The variables of this process, if they are the worker's, too. They go before those in files.
    included: BTreeMap<String, String>,
    /// Whether `.env` files are read.
    dot_env: bool,
}

impl Surroundings {
    /// Those of this process; `declared` says that the configuration names the secrets it needs.
    pub fn of_this_process(declared: bool) -> Self {
        let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|v| v.eq_ignore_ascii_case(value));
        let included = declared || is("CLOUDFLARE_INCLUDE_PROCESS_ENV", "true");
        let ours = std::env::vars_os().filter(|_| included);
        Self {
            included: ours
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
                .collect(),
            dot_env: !is("CLOUDFLARE_LOAD_DEV_VARS_FROM_DOT_ENV", "false"),
        }
    }
}

/// The names of those variables, in the order in which the files have them.
pub fn development_variables(dir: &Path, environment: Option<&str>) -> Vec<String> {
    let known = read(dir, environment, &Surroundings { included: BTreeMap::new(), dot_env: true });
    let mut files = vec![".dev.vars".to_owned(), ".env".to_owned(), ".env.local".to_owned()];
    files.extend(
        environment
            .iter()
            .flat_map(|e| [format!(".dev.vars.{e}"), format!(".env.{e}"), format!(".env.{e}.local")]),
    );
    let texts: Vec<String> =
        files.iter().filter_map(|name| std::fs::read_to_string(dir.join(name)).ok()).collect();
    let lines = texts.iter().flat_map(|text| text.lines()).filter_map(|line| line.split_once('='));
    let mut names: Vec<String> = Vec::new();
    for name in lines.map(|(name, _)| name.trim().trim_start_matches("export ").trim()) {
        if known.contains_key(name) && !names.iter().any(|other| other == name) {
            names.push(name.to_owned());
        }
    }
    names
}

/// The files that [`read`] may look at, so that a change to one of them is noticed.
pub(crate) fn is_variable_file(name: &str) -> bool {
    name.starts_with(".dev.vars") || name == ".env" || name.starts_with(".env.")
}

/// The `dotenv` syntax: `NAME=value`, `export NAME=value`, three kinds of quotes over several lines, comments.
pub fn parse(text: &str) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    let mut rest = text;
    while !rest.is_empty() {
        let line_end = rest.find('\n').unwrap_or(rest.len());
        let line = &rest[..line_end];
        let after_line = rest.get(line_end + 1..).unwrap_or_default();
        let Some((name, value)) = line.split_once('=').filter(|(name, _)| is_name(name)) else {
            rest = after_line;
            continue;
        };
        let name = name.trim().trim_start_matches("export ").trim();
        let value = value.trim_start();
        let quote = value.chars().next().filter(|c| matches!(c, '"' | '\'' | '`'));
        let quoted = quote.and_then(|quote| {
            let start =
                rest.len() - (after_line.len() + usize::from(line_end < rest.len())) - value.len() + 1;
            let inner = rest.get(start..)?;
            let end = closing(inner, quote)?;
            Some((quote, &inner[..end], &inner[end + 1..]))
        });
        match quoted {
            Some((quote, inner, after)) => {
                variables
                    .insert(name.to_owned(), if quote == '"' { unescape(inner) } else { inner.to_owned() });
                rest = after.split_once('\n').map_or("", |(_, next)| next);
            }
            None => {
                let plain = value.split(" #").next().unwrap_or(value);
                let plain = if plain.starts_with('#') { "" } else { plain };
                variables.insert(name.to_owned(), plain.trim().to_owned());
                rest = after_line;
            }
        }
    }
    variables
}

fn is_name(text: &str) -> bool {
    let name = text.trim();
    let name = name.strip_prefix("export ").unwrap_or(name).trim();
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

fn closing(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(at, c)| {
        if escaped {
            escaped = false;
            return None;
        }
        escaped = c == '\\';
        (c == quote).then_some(at)
    })
}

fn unescape(text: &str) -> String {
    text.replace("\\n", "\n").replace("\\r", "\r").replace("\\\"", "\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dotenv_syntax_is_understood() {
        let text = "A=1\nexport B = two # comment\n# C=3\nD=\"x\\ny\"\nE='it # is'\nF=\"\nover\nlines\"\nG=\nnonsense\nH=a=b";
        let expected = [
            ("A", "1"),
            ("B", "two"),
            ("D", "x\ny"),
            ("E", "it # is"),
            ("F", "\nover\nlines"),
            ("G", ""),
            ("H", "a=b"),
        ];
        let expected: BTreeMap<_, _> = expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        assert_eq!(parse(text), expected);
    }

    #[test]
    fn dev_vars_hide_env_files() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        let files = Surroundings { dot_env: true, ..Surroundings::default() };
        let read = |dir: &Path, environment| read(dir, environment, &files);
        write(".env", "A=env\nB=env");
        write(".env.local", "B=local");
        assert_eq!(read(dir.path(), None)["B"], "local");
        write(".dev.vars", "A=dev");
        assert_eq!(read(dir.path(), None), BTreeMap::from([("A".into(), "dev".into())]));
        write(".dev.vars.test", "A=test");
        assert_eq!(read(dir.path(), Some("test"))["A"], "test");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read(text in ".*", lines in "([A-Z ]*=['\"`]?[^\\n]*\\n)*") {
            parse(&text);
            parse(&lines);
        }
    }
}
