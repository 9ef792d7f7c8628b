//! Workers Sites. The rules and the texts are wrangler's.

use std::path::{Path, PathBuf};

use crate::model::Site;
use crate::read::Table;

/// The folder of the entry file where nothing names it.
const DEFAULT_ENTRY: &str = "workers-site";

pub(crate) fn read(root: &Table<'_>, table: &Table<'_>) -> Site {
    if root.get("assets").is_some() {
        let message = "Cannot use assets and Workers Sites in the same Worker.";
        root.error("site", message, "remove either \"site\" or \"assets\"");
    }
    if root.get("main").is_some() && table.get("entry-point").is_some() {
        let message = "Don't define both the `main` and `site.entry-point` fields in your configuration.";
        table.error("entry-point", message, "they mean the same: remove \"site.entry-point\"");
    }
    Site {
        bucket: root.dir().join(table.required("bucket")),
        include: table.strings("include"),
        exclude: table.strings("exclude"),
    }
}

/// The entry file of a project with `site` and without `main`. One without an ending is a folder.
pub(crate) fn entry(root: &Table<'_>) -> Option<PathBuf> {
    let site = root.table("site")?;
    let named = site.string("entry-point");
    if named.is_none() {
        let message = "Because you've defined a [site] configuration, we're defaulting to \"workers-site\" for \
                       the deprecated `site.entry-point` field.";
        site.warn(site.node(), message, "add main = \"workers-site/index.js\" at the top");
    }
    let entry = named.unwrap_or_else(|| DEFAULT_ENTRY.to_owned());
    let path = root.dir().join(&entry);
    Some(match Path::new(&entry).extension() {
        Some(_) => path,
        None => path.join("index.js"),
    })
}
