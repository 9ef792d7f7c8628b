//! esbuild's options, as wrangler gives them.

use crate::module::Format;
use crate::node::has_navigator;
use crate::options::BundleOptions;

/// For every build.
pub(crate) const COMMON: [&str; 9] = [
    "--color=false",
    "--log-level=silent",
    "--log-limit=0",
    "--target=es2024",
    "--supported:import-source=true",
    "--loader:.js=jsx",
    "--loader:.mjs=jsx",
    "--loader:.cjs=jsx",
    "--metafile",
];

/// For the build that tells modules from service workers.
pub(crate) fn guess(options: &BundleOptions) -> Vec<String> {
    let mut flags: Vec<String> = COMMON.map(str::to_owned).to_vec();
    flags.push(format!("--outdir={}", outdir(options)));
    flags.extend(options.tsconfig.iter().map(|path| format!("--tsconfig={}", path.display())));
    flags
}

/// For the bundle.
pub(crate) fn bundle(options: &BundleOptions, format: Format, injected: &[String]) -> Vec<String> {
    let mut flags = guess(options);
    let mut add = |flag: String| flags.push(flag);
    add("--bundle".into());
    add("--sourcemap".into());
    add(format!("--source-root={}", outdir(options)));
    add(format!("--entry-names={}", stem(options)));
    add(format!("--format={}", if format == Format::Modules { "esm" } else { "iife" }));
    add("--external:__STATIC_CONTENT_MANIFEST".into());
    add(format!("--conditions={}", options.conditions.join(",")));
    options.platform.iter().for_each(|it| add(format!("--platform={it}")));
    options.jsx_factory.iter().for_each(|it| add(format!("--jsx-factory={it}")));
    options.jsx_fragment.iter().for_each(|it| add(format!("--jsx-fragment={it}")));
    if options.keep_names {
        add("--keep-names".into());
    }
    if options.minify {
        add("--minify".into());
    }
    injected.iter().for_each(|file| add(format!("--inject:{file}")));
    let env = serde_json::Value::from(options.node_env.as_str()).to_string();
    let mut define = vec![
        ("process.env.NODE_ENV".to_owned(), env.clone()),
        ("global.process.env.NODE_ENV".to_owned(), env.clone()),
        ("globalThis.process.env.NODE_ENV".to_owned(), env),
    ];
    if has_navigator(&options.compatibility_date, &options.compatibility_flags) {
        define.push(("navigator.userAgent".into(), "\"Cloudflare-Workers\"".into()));
    }
    define.retain(|(name, _)| options.define.iter().all(|(own, _)| own != name));
    define.extend(options.define.iter().cloned());
    define.into_iter().for_each(|(name, value)| add(format!("--define:{name}={value}")));
    flags
}

/// Where the output would be written; it is not. Sources in the source map are relative to it.
pub(crate) fn outdir(options: &BundleOptions) -> String {
    options.project.join(".skep-bundle").to_string_lossy().into_owned()
}

/// The main module's name without `.js`.
pub(crate) fn stem(options: &BundleOptions) -> String {
    options.entry.file_stem().map_or_else(|| "index".into(), |stem| stem.to_string_lossy().into_owned())
}
