//! What comes out.

use std::path::PathBuf;

use bytes::Bytes;

use crate::message::BuildMessage;

/// A Worker's code, ready for the engine.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// The name of the main module (or of the service worker's script).
    pub main: String,
    /// All modules, the main one first. Names are unique.
    pub modules: Vec<Module>,
    /// The main module's source map (version 3), with sources that resolve against its `sourceRoot`.
    pub source_map: Option<Bytes>,
    /// How the main module is run.
    pub format: Format,
    /// The files that it was made of: a change of one of them asks for a rebuild.
    pub inputs: Vec<PathBuf>,
    /// What the entry point exports.
    pub exports: Vec<String>,
    /// What is doubtful about the code.
    pub warnings: Vec<BuildMessage>,
}

/// The two formats of Workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// An ES module that exports its handlers.
    Modules,
    /// A script that calls `addEventListener`.
    ServiceWorker,
}

/// A module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// Its name, as imports resolve to it.
    pub name: String,
    /// What imports say, where that is another: the name that wrangler uploads it by.
    pub specifier: Option<String>,
    /// What it is.
    pub kind: ModuleKind,
    /// Its content.
    pub content: Bytes,
}

impl Module {
    /// The global variable under which a service worker's script reads this module.
    pub fn global_name(&self) -> String {
        identifier(self.specifier.as_deref().unwrap_or(&self.name))
    }
}

/// The name as an identifier.
pub(crate) fn identifier(name: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '$';
    // wrangler replaces UTF-16 units.
    name.chars().flat_map(|c| std::iter::repeat_n(if allowed(c) { c } else { '_' }, c.len_utf16())).collect()
}

/// What a module is to the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ModuleKind {
    /// ECMAScript.
    EsModule,
    /// CommonJS.
    CommonJs,
    /// A string.
    Text,
    /// An `ArrayBuffer`.
    Data,
    /// A `WebAssembly.Module`.
    Wasm,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_global_name_is_an_identifier_whatever_the_hash_begins_with() {
        let specifier = Some("./372ea08c-a.txt".to_owned());
        let module = Module {
            name: "372ea08c-a.txt".into(),
            specifier,
            kind: ModuleKind::Text,
            content: Bytes::new(),
        };
        assert_eq!(module.global_name(), "__372ea08c_a_txt");
    }
}
