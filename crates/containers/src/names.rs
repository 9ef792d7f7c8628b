//! Which containers a cell may have, and what they are called: by the cell's engine, and by Docker.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::create::Limits;

/// What the containers of one script may be.
#[derive(Clone, Debug, Default)]
pub struct Cell {
    /// Its classes that have containers.
    pub classes: Vec<Class>,
}

/// A Durable Object class whose objects have containers.
#[derive(Clone, Debug, PartialEq)]
pub struct Class {
    /// The namespace's identity, as the cell's engine has it.
    pub unique_key: String,
    /// What people call it: part of the containers' names. Anything that Docker does not take is replaced.
    pub label: String,
    /// The image, as the Docker engine knows it: a name with a tag, or an id.
    pub image: String,
    /// What one container may use.
    pub limits: Limits,
    /// How many may run at once.
    pub max_instances: usize,
}

impl Class {
    /// What the cell's engine is told that its image is. It never learns the real one.
    pub fn image_name(&self) -> String {
        format!("skep/{}", tame(&self.label).to_lowercase())
    }
}

/// The container of one object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Instance {
    /// The namespace's identity.
    pub unique_key: String,
    /// The object's id: 64 hexadecimal digits.
    pub id: String,
}

/// Digits of an object's id.
const ID: usize = 64;
/// What the engine's own helper is called after the container that it is for.
const SIDECAR: &str = "-proxy";

impl Cell {
    /// The class of `instance`, if it is of this cell.
    pub fn class(&self, instance: &Instance) -> Option<&Class> {
        self.classes.iter().find(|class| class.unique_key == instance.unique_key)
    }

    /// The container that the cell's engine calls `name`, and whether it means the container's helper.
    pub(crate) fn instance(&self, name: &str) -> Option<(Instance, bool)> {
        let (name, sidecar) = match name.strip_suffix(SIDECAR) {
            Some(name) => (name, true),
            None => (name, false),
        };
        let rest = name.strip_prefix("workerd-")?;
        let id_in = |class: &Class| {
            let id = rest.strip_prefix(&class.unique_key)?.strip_prefix('-')?;
            is_id(id).then(|| Instance { unique_key: class.unique_key.clone(), id: id.to_owned() })
        };
        self.classes.iter().find_map(id_in).map(|instance| (instance, sidecar))
    }
}

/// Whether `text` is the id of a Durable Object.
pub(crate) fn is_id(text: &str) -> bool {
    text.len() == ID && is_hexadecimal(text)
}

pub(crate) fn is_hexadecimal(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// What Docker calls the container of an object. The label is for people; what keeps classes apart is made of the whole key.
pub(crate) fn docker_name(owner: &str, class: &Class, id: &str) -> String {
    let mut hasher = DefaultHasher::new();
    class.unique_key.hash(&mut hasher);
    format!("skep-{owner}-{}-{:016x}-{id}", tame(&class.label), hasher.finish())
}

/// What Docker takes in a name: `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.
pub(crate) fn tame(label: &str) -> String {
    let tamed = |c: char| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '_' };
    let text: String = label.chars().take(64).map(tamed).collect();
    match text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        true => text,
        false => format!("x{text}"),
    }
}
