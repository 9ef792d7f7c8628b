//! What a command line names a project by.

use std::path::{Path, PathBuf};

/// A project.
#[derive(Debug, PartialEq, Eq)]
pub struct Named {
    /// Its configuration, if there is one.
    pub config: Option<PathBuf>,
    /// The entry file, in place of the configuration's `main`.
    pub main: Option<PathBuf>,
}

/// The project at `path`: a folder, a configuration, or an entry file, as in `wrangler dev src/index.ts`, whose
/// configuration is in its folder or in the nearest one above.
pub fn named(path: &Path) -> Named {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    if !path.is_file() {
        return Named { config: skep_config::find(&path), main: None };
    }
    let ending = path.extension().and_then(|ending| ending.to_str());
    if matches!(ending, Some("json" | "jsonc" | "toml")) {
        return Named { config: Some(path), main: None };
    }
    let config = path.ancestors().skip(1).find_map(skep_config::find);
    Named { config, main: Some(path) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_is_named_by_folder_configuration_or_entry_file() {
        let dir = tempfile::tempdir().unwrap();
        let (config, main) = (dir.path().join("wrangler.toml"), dir.path().join("src/deep/index.ts"));
        std::fs::create_dir_all(main.parent().unwrap()).unwrap();
        std::fs::write(&main, "").unwrap();
        let nothing = Named { config: None, main: None };
        assert_eq!(named(dir.path()), nothing);
        std::fs::write(&config, "").unwrap();
        for path in [dir.path(), &config] {
            assert_eq!(named(path), Named { config: Some(config.clone()), main: None });
        }
        assert_eq!(named(&main), Named { config: Some(config), main: Some(main.clone()) });
        assert_eq!(named(main.parent().unwrap()), nothing, "a folder is meant as it stands");
    }
}
