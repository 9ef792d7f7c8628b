//! What is to be bundled, and how.

use std::path::PathBuf;

use crate::module::ModuleKind;

/// A project's options, in wrangler's terms.
#[derive(Clone, Debug)]
pub struct BundleOptions {
    /// The entry point: `main`, absolute.
    pub entry: PathBuf,
    /// The project's folder, absolute: aliases and `inputs` start here.
    pub project: PathBuf,
    /// The configuration file, which is never a module.
    pub config_path: Option<PathBuf>,
    /// `rules`; wrangler's defaults follow.
    pub rules: Vec<Rule>,
    /// `alias`.
    pub alias: Vec<(String, String)>,
    /// `define`: names and the source text that replaces them.
    pub define: Vec<(String, String)>,
    /// `compatibility_date`.
    pub compatibility_date: String,
    /// `compatibility_flags`.
    pub compatibility_flags: Vec<String>,
    /// A folder whose `node_modules` has `unenv` and `@cloudflare/unenv-preset`; needed if [`Self::needs_unenv`].
    pub unenv: PathBuf,
    /// `no_bundle`.
    pub no_bundle: bool,
    /// `find_additional_modules`; without a value it is what `no_bundle` is.
    pub find_additional_modules: Option<bool>,
    /// `base_dir`, absolute; the entry point's folder without a value.
    pub base_dir: Option<PathBuf>,
    /// `preserve_file_names`.
    pub preserve_file_names: bool,
    /// `keep_names`; wrangler's default is true.
    pub keep_names: bool,
    /// `minify`.
    pub minify: bool,
    /// `tsconfig`, absolute.
    pub tsconfig: Option<PathBuf>,
    /// `jsx_factory`; wrangler's default is `React.createElement`.
    pub jsx_factory: Option<String>,
    /// `jsx_fragment`; wrangler's default is `React.Fragment`.
    pub jsx_fragment: Option<String>,
    /// What `process.env.NODE_ENV` becomes.
    pub node_env: String,
    /// Resolution conditions: `WRANGLER_BUILD_CONDITIONS`.
    pub conditions: Vec<String>,
    /// `browser`, `node` or `neutral`: `WRANGLER_BUILD_PLATFORM`.
    pub platform: Option<String>,
}

impl BundleOptions {
    /// wrangler's defaults; conditions, platform and `NODE_ENV` come from the environment.
    pub fn new(entry: impl Into<PathBuf>, project: impl Into<PathBuf>) -> Self {
        let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let conditions = set("WRANGLER_BUILD_CONDITIONS").unwrap_or_else(|| "workerd,worker,browser".into());
        Self {
            entry: entry.into(),
            project: project.into(),
            config_path: None,
            rules: Vec::new(),
            alias: Vec::new(),
            define: Vec::new(),
            compatibility_date: String::new(),
            compatibility_flags: Vec::new(),
            unenv: PathBuf::new(),
            no_bundle: false,
            find_additional_modules: None,
            base_dir: None,
            preserve_file_names: false,
            keep_names: true,
            minify: false,
            tsconfig: None,
            jsx_factory: Some("React.createElement".into()),
            jsx_fragment: Some("React.Fragment".into()),
            node_env: set("NODE_ENV").unwrap_or_else(|| "production".into()),
            conditions: conditions.split(',').map(str::to_owned).collect(),
            platform: set("WRANGLER_BUILD_PLATFORM"),
        }
    }

    /// Whether the bundle takes Node.js modules from unenv, so that [`Self::unenv`] has to be there.
    pub fn needs_unenv(&self) -> bool {
        let mode = crate::node::mode(&self.compatibility_date, &self.compatibility_flags);
        !self.no_bundle && mode == crate::node::Mode::V2
    }

    pub(crate) fn finds_modules(&self) -> bool {
        self.find_additional_modules.unwrap_or(self.no_bundle)
    }

    pub(crate) fn module_root(&self) -> PathBuf {
        let own = || self.entry.parent().map(PathBuf::from).unwrap_or_default();
        self.base_dir.clone().unwrap_or_else(own)
    }
}

/// Files of some names are modules of some kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The kind.
    pub kind: RuleKind,
    /// The names.
    pub globs: Vec<String>,
    /// Whether later rules of the same kind count too.
    pub fallthrough: Option<bool>,
}

/// What the files of a [`Rule`] are, by wrangler's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RuleKind {
    /// `ESModule`.
    EsModule,
    /// `CommonJS`.
    CommonJs,
    /// `Text`.
    Text,
    /// `Data`.
    Data,
    /// `CompiledWasm`.
    CompiledWasm,
}

impl RuleKind {
    /// wrangler's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::EsModule => "ESModule",
            Self::CommonJs => "CommonJS",
            Self::Text => "Text",
            Self::Data => "Data",
            Self::CompiledWasm => "CompiledWasm",
        }
    }

    pub(crate) fn is_code(self) -> bool {
        matches!(self, Self::EsModule | Self::CommonJs)
    }

    pub(crate) fn module_kind(self) -> ModuleKind {
        match self {
            Self::EsModule => ModuleKind::EsModule,
            Self::CommonJs => ModuleKind::CommonJs,
            Self::Text => ModuleKind::Text,
            Self::Data => ModuleKind::Data,
            Self::CompiledWasm => ModuleKind::Wasm,
        }
    }
}
