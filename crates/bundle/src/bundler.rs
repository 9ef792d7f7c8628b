//! One project's bundler: one esbuild process, one build context.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::error::BundleError;
use crate::files::{additional_modules, module_name, read};
use crate::flags;
use crate::message::BuildMessage;
use crate::module::{Bundle, Format, Module, ModuleKind};
use crate::node::{self, Mode};
use crate::options::BundleOptions;
use crate::packet::Value;
use crate::plugin::{Met, Plugin};
use crate::rules::{self, Rules};
use crate::service::Service;

/// Bundles one project, again and again; what has not changed is not parsed again.
pub struct Bundler {
    esbuild: PathBuf,
    options: BundleOptions,
    rules: Rules,
    service: Option<Service>,
    context: Option<Context>,
    next_key: u32,
}

struct Context {
    key: u32,
    format: Format,
    plugin: Arc<Plugin>,
    ended: mpsc::UnboundedReceiver<Value>,
}

impl Bundler {
    /// A bundler with the esbuild at `esbuild`, which is started at the first build.
    pub fn new(esbuild: impl Into<PathBuf>, options: BundleOptions) -> Self {
        let rules = rules::parse(&options.rules);
        Self { esbuild: esbuild.into(), options, rules, service: None, context: None, next_key: 0 }
    }

    /// The bundle of the files as they are now.
    pub async fn build(&mut self) -> Result<Bundle, BundleError> {
        let entry = &self.options.entry;
        if entry.extension().is_some_and(|extension| extension == "py") {
            return Err(BundleError::Python(entry.clone()));
        }
        if !entry.is_file() {
            return Err(BundleError::NoEntry(entry.clone()));
        }
        let result = self.attempt().await;
        if matches!(result, Err(BundleError::Gone)) {
            // The next build starts a new process.
            (self.service, self.context) = (None, None);
        }
        result
    }

    /// The format and what the entry point itself exports, without bundling: no dependency has to be there.
    pub async fn exports(&mut self) -> Result<(Format, Vec<String>), BundleError> {
        let entry = &self.options.entry;
        if !entry.is_file() {
            return Err(BundleError::NoEntry(entry.clone()));
        }
        if self.service.is_none() {
            self.service = Some(Service::start(&self.esbuild, &self.options.project).await?);
        }
        let (format, exports, _) = self.guess().await?;
        Ok((format, exports))
    }

    async fn attempt(&mut self) -> Result<Bundle, BundleError> {
        if self.service.is_none() {
            self.service = Some(Service::start(&self.esbuild, &self.options.project).await?);
        }
        let (format, exports, doubt) = self.guess().await?;
        if format == Format::ServiceWorker && self.options.finds_modules() && !self.options.no_bundle {
            return Err(BundleError::AdditionalInServiceWorker);
        }
        let found = match self.options.finds_modules() {
            true => additional_modules(&self.options, &self.rules)?,
            false => Vec::new(),
        };
        let mut bundle = match self.options.no_bundle {
            true => self.as_it_is(format, exports)?,
            false => self.bundled(format, &found).await?,
        };
        bundle.warnings.extend(doubt.into_iter().chain(self.rules.warnings.iter().cloned()));
        let root = self.options.module_root();
        bundle.inputs.extend(found.iter().map(|module| root.join(&module.name)));
        for module in found {
            if bundle.modules.iter().all(|other| other.name != module.name) {
                bundle.modules.push(module);
            }
        }
        Ok(bundle)
    }

    fn service(&self) -> Result<&Service, BundleError> {
        self.service.as_ref().ok_or(BundleError::Gone)
    }

    /// The format, by what the entry point exports.
    async fn guess(&mut self) -> Result<(Format, Vec<String>, Option<BuildMessage>), BundleError> {
        let key = self.key();
        let flags = flags::guess(&self.options);
        let answer = self.service()?.caller.call(self.request(key, flags, None)).await?;
        fail_on_errors(&answer)?;
        let exports = Metafile::read(&answer).exports();
        if exports.iter().any(|name| name == "default") {
            return Ok((Format::Modules, exports, None));
        }
        let doubt = (!exports.is_empty()).then(|| {
            let entry = self.options.entry.strip_prefix(&self.options.project).unwrap_or(&self.options.entry);
            BuildMessage::plain(format!(
                "The entrypoint {} has exports like an ES Module, but hasn't defined a default export like a module \
                 worker normally would. Building the worker using \"service-worker\" format...",
                entry.display()
            ))
        });
        Ok((Format::ServiceWorker, exports, doubt))
    }

    fn as_it_is(&self, format: Format, exports: Vec<String>) -> Result<Bundle, BundleError> {
        let (entry, root) = (&self.options.entry, self.options.module_root());
        let outside = || BundleError::OutsideBase { entry: entry.clone(), base: root.clone() };
        let main = module_name(&root, entry).ok_or_else(outside)?;
        let content = read(entry)?.into();
        let kind = match format {
            Format::Modules => ModuleKind::EsModule,
            Format::ServiceWorker => ModuleKind::CommonJs,
        };
        Ok(Bundle {
            modules: vec![Module { name: main.clone(), specifier: None, kind, content }],
            main,
            source_map: None,
            format,
            inputs: vec![entry.clone()],
            exports,
            warnings: Vec::new(),
        })
    }

    async fn bundled(&mut self, format: Format, found: &[Module]) -> Result<Bundle, BundleError> {
        if self.context.as_ref().is_none_or(|context| context.format != format) {
            self.open(format).await?;
        }
        let caller = self.service()?.caller.clone();
        let root = self.options.module_root();
        let context = self.context.as_mut().ok_or(BundleError::Gone)?;
        *context.plugin.found.lock().unwrap_or_else(PoisonError::into_inner) =
            found.iter().map(|module| root.join(&module.name)).collect();
        while context.ended.try_recv().is_ok() {}
        let rebuild =
            Value::map([("command", Value::Text("rebuild".into())), ("key", Value::Int(context.key))]);
        let answer = caller.call(rebuild).await?;
        let result = context.ended.try_recv().unwrap_or(answer);
        let met = std::mem::take(&mut *context.plugin.met());
        collect(&self.options, format, &result, met)
    }

    /// A new context in place of the present one.
    async fn open(&mut self, format: Format) -> Result<(), BundleError> {
        let key = self.key();
        let (ended, receiver) = mpsc::unbounded_channel();
        let plugin = Arc::new(Plugin::new(key, &self.options, format, &self.rules, ended));
        let flags = flags::bundle(&self.options, format, &plugin.injected());
        let request = self.request(key, flags, Some(&plugin));
        let service = self.service()?;
        service.plugins.lock().unwrap_or_else(PoisonError::into_inner).insert(key, plugin.clone());
        if let Some(old) = &self.context {
            let dispose =
                Value::map([("command", Value::Text("dispose".into())), ("key", Value::Int(old.key))]);
            service.caller.call(dispose).await?;
            service.plugins.lock().unwrap_or_else(PoisonError::into_inner).remove(&old.key);
        }
        fail_on_errors(&service.caller.call(request).await?)?;
        self.context = Some(Context { key, format, plugin, ended: receiver });
        Ok(())
    }

    fn key(&mut self) -> u32 {
        self.next_key += 1;
        self.next_key
    }

    fn request(&self, key: u32, flags: Vec<String>, plugin: Option<&Plugin>) -> Value {
        let text = |path: &Path| Value::Text(path.to_string_lossy().into_owned());
        let entry = Value::List(vec![Value::Text(String::new()), text(&self.options.entry)]);
        let mut request = Value::map([
            ("command", Value::Text("build".into())),
            ("key", Value::Int(key)),
            ("entries", Value::List(vec![entry])),
            ("flags", Value::texts(flags)),
            ("write", Value::Bool(false)),
            ("stdinContents", Value::Null),
            ("stdinResolveDir", Value::Null),
            ("absWorkingDir", text(&self.options.project)),
            ("nodePaths", Value::List(Vec::new())),
            ("context", Value::Bool(plugin.is_some())),
        ]);
        if let (Value::Map(entries), Some(plugin)) = (&mut request, plugin) {
            entries.push(("plugins".into(), plugin.description()));
        }
        request
    }
}

fn collect(options: &BundleOptions, format: Format, result: &Value, met: Met) -> Result<Bundle, BundleError> {
    let errors = rewritten(messages(result, "errors"), options);
    let warnings = messages(result, "warnings");
    if !errors.is_empty() {
        return Err(BundleError::Build { errors, warnings });
    }
    refuse_imports_in_scripts(format, &met)?;
    let output = |suffix: &str| {
        let found = result.list("outputFiles").iter().find(|file| file.text("path").ends_with(suffix))?;
        match found.get("contents") {
            Some(Value::Bytes(bytes)) => Some(Bytes::from(bytes.clone())),
            _ => None,
        }
    };
    let main = format!("{}.js", flags::stem(options));
    let code = output(".js").ok_or_else(|| BundleError::Refused("there is no output".into()))?;
    let metafile = Metafile::read(result);
    let kind = match format {
        Format::Modules => ModuleKind::EsModule,
        Format::ServiceWorker => ModuleKind::CommonJs,
    };
    let mut modules = vec![Module { name: main.clone(), specifier: None, kind, content: code }];
    modules.extend(met.modules.iter().cloned());
    let mut inputs = metafile.inputs(&options.project);
    inputs.extend(met.files.iter().cloned());
    inputs.sort();
    inputs.dedup();
    let mut bundle = Bundle {
        main,
        modules,
        source_map: output(".js.map"),
        format,
        inputs,
        exports: metafile.exports(),
        warnings,
    };
    if node::mode(&options.compatibility_date, &options.compatibility_flags) != Mode::V1 {
        bundle.warnings.extend(node_warnings(&met, options));
    }
    Ok(bundle)
}

fn node_warnings(met: &Met, options: &BundleOptions) -> Vec<BuildMessage> {
    let mut packages: Vec<(&str, String)> = Vec::new();
    for (package, importer) in &met.unmet_node {
        let importer = Path::new(importer).strip_prefix(&options.project).unwrap_or(Path::new(importer));
        let line = format!("\n - {}", importer.display());
        match packages.iter_mut().find(|(name, _)| *name == package.as_str()) {
            Some((_, lines)) if lines.contains(&line) => {}
            Some((_, lines)) => lines.push_str(&line),
            None => packages.push((package, line)),
        }
    }
    let warn = |(package, importers): (&str, String)| {
        BuildMessage::plain(format!(
            "The package \"{package}\" wasn't found on the file system but is built into node.\nYour Worker may throw \
             errors at runtime unless you enable the \"nodejs_compat\" compatibility flag. Refer to \
             https://developers.cloudflare.com/workers/runtime-apis/nodejs/ for more details. Imported from:{importers}"
        ))
    };
    packages.into_iter().map(warn).collect()
}

/// A script cannot import: its external modules have nowhere to come from.
fn refuse_imports_in_scripts(format: Format, met: &Met) -> Result<(), BundleError> {
    let mut names: Vec<String> =
        met.unmet_node.iter().map(|(name, _)| name).chain(&met.external).cloned().collect();
    if format == Format::Modules || names.is_empty() {
        return Ok(());
    }
    names.sort();
    names.dedup();
    let list: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    let list = match list.as_slice() {
        [one] => one.clone(),
        [one, two] => format!("{one} and {two}"),
        [rest @ .., last] => format!("{}, and {last}", rest.join(", ")),
        [] => String::new(),
    };
    let text = format!(
        "Unexpected external import of {list}.\nYour worker has no default export, which means it is assumed to be a \
         Service Worker format Worker.\nDid you mean to create a ES Module format Worker?\nIf so, try adding \
         `export default {{ ... }}` in your entry-point.\nSee \
         https://developers.cloudflare.com/workers/reference/migrate-to-module-workers/"
    );
    Err(BundleError::Build { errors: vec![BuildMessage::plain(text)], warnings: Vec::new() })
}

/// Says what to do about Node.js modules.
fn rewritten(mut errors: Vec<BuildMessage>, options: &BundleOptions) -> Vec<BuildMessage> {
    let mode = node::mode(&options.compatibility_date, &options.compatibility_flags);
    for error in &mut errors {
        let quoted = error.text.strip_prefix("Could not resolve \"").and_then(|rest| rest.strip_suffix('"'));
        let Some(package) = quoted.filter(|name| node::BARE.contains(name)) else { continue };
        let advice = match mode {
            Mode::Off | Mode::Als => "- Add the \"nodejs_compat\" compatibility flag to your project.",
            Mode::V1 => {
                "- Make sure to prefix the module name with \"node:\" or update your compatibility_date to 2024-09-23 \
                 or later."
            }
            Mode::V2 => continue,
        };
        error.notes = vec![BuildMessage::plain(format!(
            "The package \"{package}\" wasn't found on the file system but is built into node.\n{advice}"
        ))];
    }
    errors
}

fn messages(result: &Value, key: &str) -> Vec<BuildMessage> {
    result.list(key).iter().map(BuildMessage::read).collect()
}

fn fail_on_errors(answer: &Value) -> Result<(), BundleError> {
    let errors = messages(answer, "errors");
    match errors.is_empty() {
        true => Ok(()),
        false => Err(BundleError::Build { errors, warnings: messages(answer, "warnings") }),
    }
}

/// What esbuild says about inputs and outputs.
struct Metafile(serde_json::Value);

impl Metafile {
    fn read(answer: &Value) -> Self {
        let json = match answer.get("metafile") {
            Some(Value::Bytes(bytes)) => serde_json::from_slice(bytes).ok(),
            Some(Value::Text(text)) => serde_json::from_str(text).ok(),
            _ => None,
        };
        Self(json.unwrap_or_default())
    }

    fn exports(&self) -> Vec<String> {
        let outputs = self.0.get("outputs").and_then(|outputs| outputs.as_object());
        let entry = outputs.and_then(|it| it.values().find(|output| output.get("entryPoint").is_some()));
        let exports = entry.and_then(|output| output.get("exports")?.as_array());
        exports.into_iter().flatten().filter_map(|name| name.as_str().map(str::to_owned)).collect()
    }

    fn inputs(&self, project: &Path) -> Vec<PathBuf> {
        let inputs = self.0.get("inputs").and_then(|inputs| inputs.as_object());
        let paths = inputs.into_iter().flat_map(|inputs| inputs.keys());
        paths.map(|path| project.join(path)).filter(|path| path.is_file()).collect()
    }
}
