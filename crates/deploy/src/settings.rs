//! `skep.deploy.toml`: what a project needs from its surroundings. Pure.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value as Json;

/// The file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// `[variables.NAME]`
    pub variables: BTreeMap<String, Variable>,
    /// `[targets.NAME]`
    pub targets: BTreeMap<String, Profile>,
    /// `[domain]`
    pub domain: Option<Domain>,
    /// `[templates]`
    pub templates: Option<Templates>,
    /// `[containers.NAME]`, by the class or the name of the container.
    pub containers: BTreeMap<String, Container>,
}

/// What a container has to be here.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Container {
    /// How large its instances are: `small`, `standard`, `large`, or a name of Cloudflare's.
    pub size: Option<String>,
    /// At most so many at once.
    pub max_instances: Option<u64>,
    /// The variable of the environment that says its size, if it is set.
    pub variable: Option<String>,
}

/// A variable of the environment that the worker gets.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Variable {
    /// Whether the deploy may go on without it; by default not, unless it has a default.
    pub optional: bool,
    /// Whether it is a secret: never printed, kept encrypted.
    pub secret: bool,
    /// What it has to be.
    #[serde(rename = "type")]
    pub kind: VariableKind,
    /// What it is if nothing sets it.
    pub default: Option<Json>,
    /// For whoever has to set it.
    pub description: Option<String>,
}

/// What a variable has to be.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum VariableKind {
    /// Any text.
    #[default]
    String,
    /// A number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// Any JSON.
    Json,
    /// A URL of http or https.
    Url,
    /// A host name.
    Hostname,
}

/// A target by name.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// The API's URL.
    pub api: String,
    /// The account.
    pub account: Option<String>,
    /// The variable of the environment that has the token; `CLOUDFLARE_API_TOKEN` by default.
    pub token_env: Option<String>,
}

/// The project's own domain.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Domain {
    /// The variable of the environment that has it.
    pub variable: String,
    /// Whether every name below it leads to the worker, too.
    pub previews: bool,
}

impl Default for Domain {
    fn default() -> Self {
        Self { variable: "CUSTOM_DOMAIN".to_owned(), previews: true }
    }
}

/// Files that are published to a bucket: a folder, or a git repository.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Templates {
    /// The folder, from the project's folder or the repository's root on.
    pub dir: Option<String>,
    /// The repository's URL.
    pub git: Option<String>,
    /// A branch or a tag of it.
    pub branch: Option<String>,
    /// The bucket; it is made if it is missing.
    pub bucket: String,
    /// What keys begin with.
    #[serde(default)]
    pub prefix: String,
}

/// What the variables come to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Values {
    /// Plain ones.
    pub vars: Vec<(String, Json)>,
    /// Secret ones.
    pub secrets: BTreeMap<String, String>,
    /// Secrets that nothing sets: they may be on the server.
    pub required_secrets: Vec<String>,
    /// What is missing or wrong.
    pub problems: Vec<String>,
}

impl Settings {
    /// Reads the file's text, as JSON.
    pub fn read(json: Json) -> Result<Self, String> {
        let settings: Self = serde_json::from_value(json).map_err(|e| e.to_string())?;
        for (name, variable) in &settings.variables {
            let known = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            if !known {
                return Err(format!("\"{name}\" is not the name of a variable"));
            }
            if variable.secret && variable.default.is_some() {
                return Err(format!(
                    "the secret \"{name}\" has a default: a secret does not stand in a file"
                ));
            }
        }
        if settings.templates.as_ref().is_some_and(|own| own.dir.is_none() && own.git.is_none()) {
            return Err("\"templates\" has neither \"dir\" nor \"git\"".to_owned());
        }
        Ok(settings)
    }

    /// The values of all variables. `set` knows what the environment says; `configured` are those of the configuration,
    /// which stay as they are.
    pub fn values(&self, set: impl Fn(&str) -> Option<String>, configured: &Json) -> Values {
        let mut values = Values::default();
        for (name, variable) in &self.variables {
            match set(name) {
                Some(text) => match variable.kind.read(&text) {
                    Ok(_) if variable.secret => drop(values.secrets.insert(name.clone(), text)),
                    Ok(value) => values.vars.push((name.clone(), value)),
                    // The value may be a secret: it is not repeated.
                    Err(wanted) => values
                        .problems
                        .push(format!("the variable {name} is not {wanted}{}", variable.about())),
                },
                None if variable.secret && variable.optional => {}
                None if variable.secret => values.required_secrets.push(name.clone()),
                None if !configured[name].is_null() => {}
                None => match &variable.default {
                    Some(default) => values.vars.push((name.clone(), default.clone())),
                    None if variable.optional => {}
                    None => {
                        values.problems.push(format!("the variable {name} is not set{}", variable.about()))
                    }
                },
            }
        }
        values
    }
}

impl Settings {
    /// Puts the sizes of containers into `raw`, the configuration; returns what is wrong with them.
    pub fn size_containers(&self, raw: &mut Json, set: impl Fn(&str) -> Option<String>) -> Vec<String> {
        let mut problems = Vec::new();
        for (name, own) in &self.containers {
            let list = raw["containers"].as_array_mut().map(Vec::as_mut_slice).unwrap_or_default();
            let Some(container) =
                list.iter_mut().find(|c| c["class_name"] == name.as_str() || c["name"] == name.as_str())
            else {
                problems.push(format!(
                    "skep.deploy.toml has a container {name}, which the configuration has not"
                ));
                continue;
            };
            let said = own.variable.as_ref().and_then(|name| set(name)).filter(|word| !word.is_empty());
            if let Some(word) = said.as_ref().or(own.size.as_ref()) {
                match crate::containers::preset(word) {
                    Ok(size) => container["instance_type"] = size,
                    Err(error) => problems.push(format!("the container {name}: {error}")),
                }
            }
            if let Some(most) = own.max_instances {
                container["max_instances"] = most.into();
            }
        }
        problems
    }
}

impl Variable {
    fn about(&self) -> String {
        self.description.as_ref().map(|text| format!(": {text}")).unwrap_or_default()
    }
}

impl VariableKind {
    /// The text as a value, or what it should be.
    fn read(self, text: &str) -> Result<Json, &'static str> {
        let json = || serde_json::from_str::<Json>(text).ok();
        match self {
            Self::String => Ok(text.into()),
            Self::Number => json().filter(Json::is_number).ok_or("a number"),
            Self::Boolean => json().filter(Json::is_boolean).ok_or("true or false"),
            Self::Json => json().ok_or("JSON"),
            Self::Url => {
                let url = url::Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
                url.map(|_| text.into()).ok_or("a URL of http or https")
            }
            Self::Hostname => is_hostname(text).then(|| text.into()).ok_or("a host name"),
        }
    }
}

/// Whether a text is a domain name with at least two labels.
pub(crate) fn is_hostname(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.contains('.') && text.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn settings() -> Settings {
        Settings::read(json!({ "variables": {
            "API": { "type": "url", "description": "where the backend is" }, "KEY": { "secret": true },
            "MAYBE": { "optional": true }, "LEVEL": { "type": "number", "default": 3 }, "ON": { "type": "boolean" },
            "HOST": { "type": "hostname" }, "OPEN": { "secret": true, "optional": true }, "KNOWN": {},
        } }))
        .unwrap()
    }

    #[test]
    fn values_come_from_the_environment_or_defaults() {
        let set = |name: &str| {
            let all = [("API", "https://x.test"), ("KEY", "k"), ("ON", "true"), ("HOST", "a.example.com")];
            all.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        let values = settings().values(set, &json!({ "KNOWN": "v" }));
        assert_eq!(values.problems, [""; 0]);
        let vars: BTreeMap<_, _> = values.vars.into_iter().collect();
        let expected = json!({ "API": "https://x.test", "HOST": "a.example.com", "LEVEL": 3, "ON": true });
        assert_eq!(serde_json::to_value(vars).unwrap(), expected);
        assert_eq!((values.secrets["KEY"].as_str(), values.required_secrets), ("k", vec![]));
    }

    #[test]
    fn containers_have_the_size_that_the_environment_or_the_file_says() {
        let settings =
            json!({ "containers": { "Box": { "size": "standard", "variable": "BOX", "max_instances": 4 } } });
        let settings = Settings::read(settings).unwrap();
        let sized = |word: Option<&str>| {
            let mut raw =
                json!({ "containers": [{ "class_name": "Box", "image": "x:1", "instance_type": "lite" }] });
            let problems = settings.size_containers(&mut raw, |_| word.map(str::to_owned));
            (raw["containers"][0].clone(), problems)
        };
        let (own, problems) = sized(None);
        assert_eq!(own["instance_type"], json!({ "vcpu": 4, "memory_mib": 4096, "disk_mb": 6144 }));
        assert_eq!((own["max_instances"].as_u64(), problems.len()), (Some(4), 0));
        assert_eq!(sized(Some("standard-4")).0["instance_type"], "standard-4");
        assert!(sized(Some("huge")).1[0].contains("\"huge\""));
        assert!(
            settings.size_containers(&mut json!({}), |_| None)[0].contains("which the configuration has not")
        );
    }

    #[test]
    fn all_that_is_missing_or_wrong_is_told_together_and_without_values() {
        let set = |name: &str| (name == "ON").then(|| "s3cr3t".to_owned());
        let values = settings().values(set, &Json::Null);
        let expected = [
            "the variable API is not set: where the backend is",
            "the variable HOST is not set",
            "the variable KNOWN is not set",
            "the variable ON is not true or false",
        ];
        assert_eq!(values.problems, expected);
        assert_eq!(values.required_secrets, ["KEY"]);
    }

    #[test]
    fn what_the_file_may_not_say_is_refused() {
        for (json, part) in [
            (json!({ "variable": {} }), "unknown field"),
            (json!({ "variables": { "A": { "kind": "x" } } }), "unknown field"),
            (json!({ "variables": { "A-B": {} } }), "\"A-B\""),
            (json!({ "variables": { "A": { "secret": true, "default": "x" } } }), "has a default"),
        ] {
            assert!(Settings::read(json).unwrap_err().contains(part), "{part}");
        }
    }
}
