//! Modules that are found by walking folders instead of by following imports.

use std::path::Path;

use crate::error::BundleError;
use crate::glob::matches_file;
use crate::module::Module;
use crate::options::BundleOptions;
use crate::rules::Rules;

/// The files below the module root that a rule matches, without the entry point. Blocking.
pub(crate) fn additional_modules(options: &BundleOptions, rules: &Rules) -> Result<Vec<Module>, BundleError> {
    let root = options.module_root();
    let mut modules = Vec::new();
    walk(&root, options, &mut |path| {
        let Some(name) = module_name(&root, path) else { return Ok(()) };
        let matching =
            rules.active.iter().find(|rule| rule.globs.iter().any(|glob| matches_file(glob, &name)));
        if let Some(rule) = matching {
            let content = read(path)?.into();
            modules.push(Module { name, specifier: None, kind: rule.kind.module_kind(), content });
        }
        Ok(())
    })?;
    modules.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(modules)
}

/// The path below the root, with slashes.
pub(crate) fn module_name(root: &Path, path: &Path) -> Option<String> {
    let parts: Vec<&str> =
        path.strip_prefix(root).ok()?.iter().map(|part| part.to_str()).collect::<Option<_>>()?;
    Some(parts.join("/"))
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, BundleError> {
    std::fs::read(path).map_err(|source| BundleError::Read { path: path.to_owned(), source })
}

fn walk(
    folder: &Path,
    options: &BundleOptions,
    visit: &mut impl FnMut(&Path) -> Result<(), BundleError>,
) -> Result<(), BundleError> {
    let failed = |source| BundleError::Read { path: folder.to_owned(), source };
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        // Links to folders are not followed: they may lead in circles.
        if entry.file_type().map_err(failed)?.is_dir() {
            if path != options.project.join(".wrangler") {
                walk(&path, options, visit)?;
            }
        } else if path != options.entry && Some(&path) != options.config_path.as_ref() && path.is_file() {
            visit(&path)?;
        }
    }
    Ok(())
}
