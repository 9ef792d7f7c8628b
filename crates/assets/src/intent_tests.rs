use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Name → content.
#[derive(Debug)]
struct Fake(BTreeMap<String, u32>);

impl Fake {
    /// Each file with its own content.
    fn of(names: &[&str]) -> Self {
        Self(names.iter().zip(0..).map(|(name, content)| ((*name).to_owned(), content)).collect())
    }
}

impl Files for Fake {
    type File<'a> = (&'a str, u32);
    fn get(&self, name: &str) -> Option<(&str, u32)> {
        self.0.get_key_value(name).map(|(name, content)| (name.as_str(), *content))
    }
    fn same(a: &(&str, u32), b: &(&str, u32)) -> bool {
        a.1 == b.1
    }
    fn deepest_404(&self) -> Option<usize> {
        self.0.keys().filter_map(|name| name.strip_suffix("/404.html")).map(str::len).max()
    }
}

const NOT_FOUND: [NotFoundHandling; 3] =
    [NotFoundHandling::None, NotFoundHandling::SinglePageApplication, NotFoundHandling::Page404];

const MODES: [HtmlHandling; 4] = [
    HtmlHandling::AutoTrailingSlash,
    HtmlHandling::ForceTrailingSlash,
    HtmlHandling::DropTrailingSlash,
    HtmlHandling::None,
];

fn show(files: &Fake, html: HtmlHandling, not_found: NotFoundHandling, name: &str) -> String {
    match resolve(files, html, not_found, name) {
        None => "–".to_owned(),
        Some(Intent::Serve((file, _))) => file.trim_start_matches('/').to_owned(),
        Some(Intent::NotFoundPage((file, _))) => format!("404 {}", file.trim_start_matches('/')),
        Some(Intent::Redirect(to)) => format!("→ {to}"),
    }
}

/// Cloudflare's truth table: files, request, then auto-, force-, drop-trailing-slash and none.
#[test]
fn html_handling_follows_the_truth_table() {
    let foo: &[&str] = &["/foo.html"];
    let index: &[&str] = &["/foo/index.html"];
    let both: &[&str] = &["/foo.html", "/foo/index.html"];
    let binary: &[&str] = &["/foo", "/foo.html"];
    let root: &[&str] = &["/index.html"];
    let table: &[(&[&str], &str, [&str; 4])] = &[
        (foo, "/foo", ["foo.html", "→ /foo/", "foo.html", "–"]),
        (foo, "/foo/", ["→ /foo", "foo.html", "→ /foo", "–"]),
        (foo, "/foo.html", ["→ /foo", "→ /foo/", "→ /foo", "foo.html"]),
        (foo, "/foo/index", ["→ /foo", "→ /foo/", "→ /foo", "–"]),
        (foo, "/foo/index.html", ["→ /foo", "→ /foo/", "→ /foo", "–"]),
        (foo, "/foo/index/", ["–", "–", "–", "–"]),
        (foo, "/foo.html/", ["–", "–", "–", "–"]),
        (index, "/foo", ["→ /foo/", "→ /foo/", "foo/index.html", "–"]),
        (index, "/foo/", ["foo/index.html", "foo/index.html", "→ /foo", "–"]),
        (index, "/foo.html", ["→ /foo/", "→ /foo/", "→ /foo", "–"]),
        (index, "/foo/index", ["→ /foo/", "→ /foo/", "→ /foo", "–"]),
        (index, "/foo/index.html", ["→ /foo/", "→ /foo/", "→ /foo", "foo/index.html"]),
        (index, "/foo/index/", ["→ /foo/index", "foo/index.html", "→ /foo/index", "–"]),
        (both, "/foo", ["foo.html", "→ /foo/", "foo.html", "–"]),
        (both, "/foo/", ["foo/index.html", "foo/index.html", "→ /foo", "–"]),
        (both, "/foo.html", ["→ /foo", "foo.html", "→ /foo", "foo.html"]),
        (both, "/foo/index", ["→ /foo/", "→ /foo/", "→ /foo", "–"]),
        (both, "/foo/index.html", ["→ /foo/", "→ /foo/", "foo/index.html", "foo/index.html"]),
        (binary, "/foo", ["foo", "foo", "foo", "foo"]),
        (binary, "/foo/", ["–", "foo.html", "–", "–"]),
        (binary, "/foo.html", ["foo.html", "→ /foo/", "foo.html", "foo.html"]),
        (root, "/", ["index.html", "index.html", "index.html", "–"]),
        (root, "/index", ["→ /", "→ /", "→ /", "–"]),
        (root, "/index.html", ["→ /", "→ /", "→ /", "index.html"]),
    ];
    for (files, request, expected) in table {
        let fake = Fake::of(files);
        for (html, expected) in MODES.into_iter().zip(expected) {
            let got = show(&fake, html, NotFoundHandling::None, request);
            assert_eq!(&got, expected, "{files:?} {request} {html:?}");
        }
    }
}

/// Answers of Cloudflare's own resolver to random questions: files with their content, mode, not-found handling,
/// request; then nothing, a redirect, or status and content.
#[test]
fn random_questions_are_answered_as_cloudflare_does() {
    for line in include_str!("intent_vectors.txt").lines() {
        let [files, mode, not_found, request, expected] = line.split('|').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let file = |text: &str| {
            text.split_once('=').map(|(name, content)| (name.to_owned(), content.parse().unwrap()))
        };
        let files = Fake(files.split(' ').filter_map(file).collect());
        let mode = MODES[mode.parse::<usize>().unwrap()];
        let not_found = NOT_FOUND[not_found.parse::<usize>().unwrap()];
        let got = match resolve(&files, mode, not_found, request) {
            None => "-".to_owned(),
            Some(Intent::Redirect(to)) => format!(">{to}"),
            Some(Intent::Serve((_, content))) => format!("200={content}"),
            Some(Intent::NotFoundPage((_, content))) => format!("404={content}"),
        };
        assert_eq!(got, expected, "{line}");
    }
}

#[test]
fn a_single_page_application_answers_every_path_with_its_index() {
    let files = Fake::of(&["/index.html", "/a.txt"]);
    let spa =
        |name| show(&files, HtmlHandling::AutoTrailingSlash, NotFoundHandling::SinglePageApplication, name);
    assert_eq!(spa("/a.txt"), "a.txt");
    assert_eq!(spa("/some/route"), "index.html");
    let without = Fake::of(&["/a.txt"]);
    let none = NotFoundHandling::SinglePageApplication;
    assert_eq!(show(&without, HtmlHandling::AutoTrailingSlash, none, "/route"), "–");
}

#[test]
fn the_nearest_404_page_answers() {
    let files = Fake::of(&["/404.html", "/docs/404.html"]);
    let get = |name| show(&files, HtmlHandling::AutoTrailingSlash, NotFoundHandling::Page404, name);
    assert_eq!(get("/docs/a/b"), "404 docs/404.html");
    assert_eq!(get("/docs"), "404 404.html");
    assert_eq!(get("/other/x"), "404 404.html");
    let deep = Fake::of(&["/docs/404.html"]);
    assert_eq!(show(&deep, HtmlHandling::None, NotFoundHandling::Page404, "/x"), "–");
}

fn name() -> impl Strategy<Value = String> {
    "(/(foo|index|404|a)(\\.html)?){1,3}/?"
}

proptest! {
    /// Following redirects ends, soon, at a file.
    #[test]
    fn redirects_end_at_a_file(
        files in prop::collection::btree_map(name(), 0..3_u32, 0..6),
        request in name(),
        mode in 0..4_usize,
        not_found in 0..3_usize,
    ) {
        let files = Fake(files.into_iter().map(|(n, c)| (n.trim_end_matches('/').to_owned(), c)).collect());
        let not_found = NOT_FOUND[not_found];
        let mut chain = vec![request];
        while let Some(Intent::Redirect(to)) = resolve(&files, MODES[mode], not_found, chain.last().unwrap()) {
            prop_assert!(chain.len() < 4 && !chain.contains(&to), "{:?} → {}", chain, to);
            chain.push(to);
        }
        if chain.len() > 1 {
            prop_assert!(resolve(&files, MODES[mode], not_found, chain.last().unwrap()).is_some());
        }
    }
}
