use proptest::prelude::*;

use super::*;

fn applied(text: &str, path: &str, start: &[(&'static str, &'static str)]) -> Vec<String> {
    let (rules, warnings) = Headers::parse(text);
    assert_eq!(warnings, []);
    let mut headers = HeaderMap::new();
    for (name, value) in start {
        headers.insert(*name, HeaderValue::from_static(value));
    }
    rules.matching(path, &format!("https://example.com{path}")).apply(&mut headers);
    let mut lines: Vec<String> =
        headers.iter().map(|(n, v)| format!("{n}: {}", String::from_utf8_lossy(v.as_bytes()))).collect();
    lines.sort();
    lines
}

fn warnings(text: &str) -> Vec<(Option<usize>, String)> {
    Headers::parse(text).1.into_iter().map(|w| (w.line_number, w.message)).collect()
}

#[test]
fn the_first_rule_replaces_and_later_rules_append() {
    let text = "/*\n  X-A: one\n  X-A: two\n  Cache-Control: no-store\n/a.txt\n  X-A: three\n  ! ETag\n";
    assert_eq!(
        applied(text, "/a.txt", &[("etag", "\"x\""), ("cache-control", "public")]),
        ["cache-control: no-store", "x-a: one, two", "x-a: three"]
    );
    assert_eq!(
        applied(text, "/b", &[("etag", "\"x\"")]),
        ["cache-control: no-store", "etag: \"x\"", "x-a: one, two"]
    );
}

#[test]
fn removals_come_before_sets_of_the_same_rule() {
    assert_eq!(applied("/*\n X-B: new\n ! X-B", "/", &[("x-b", "old")]), ["x-b: new"]);
}

#[test]
fn placeholders_fill_values_and_hosts_match() {
    assert_eq!(applied("/m/:title\n  X-T: it is :title", "/m/jaws", &[]), ["x-t: it is jaws"]);
    assert_eq!(applied("/*\n  X-P: p=:splat", "/a/b", &[]), ["x-p: p=a/b"]);
    assert_eq!(applied("https://example.com/*\n  X-H: 1", "/a", &[]), ["x-h: 1"]);
    assert_eq!(applied("https://:any.com/*\n  X-H: :any", "/a", &[]), ["x-h: example"]);
    assert!(applied("https://other.com/*\n  X-H: 1", "/a", &[]).is_empty());
    assert_eq!(applied("/ü b\n  X: 1", "/%C3%BC%20b", &[]), ["x: 1"]);
}

#[test]
fn the_same_path_again_replaces_the_rule() {
    assert_eq!(applied("/a\n  X: 1\n/a\n  Y: 2", "/a", &[]), ["y: 2"]);
}

#[test]
fn wrong_lines_are_reported_and_left_out() {
    for (text, line, expected) in [
        ("x: y", Some(1), "Path should come before header (x: y)"),
        ("hello", Some(1), "Expected a path beginning with at least one forward-slash"),
        ("/a\n  hello\n  x: y", Some(2), "Expected a colon-separated header pair (e.g. name: value)"),
        ("/a\n  x y: z\n  x: y", Some(2), "Header name cannot include spaces"),
        ("/a\n  : z\n  x: y", Some(2), "No header name specified"),
        ("/a\n  x(y): z\n  x: y", Some(2), "Header name is not valid (x(y))"),
        ("/a\n  x:\n  x: y", Some(2), "No header value specified"),
        ("/a\n/b\n  x: y", Some(2), "No headers specified"),
        ("/a", None, "No headers specified"),
        (
            "/a/*/b/*\n  x: y",
            Some(1),
            "Only one wildcard is allowed per rule. Use a named placeholder (e.g. :project) instead. Skipping /a/*/b/*.",
        ),
        (
            "/:splat/*\n  x: y",
            Some(1),
            "Cannot combine a wildcard * with a :splat placeholder because wildcards are converted to :splat at \
             runtime. Skipping /:splat/*.",
        ),
        (
            "https://a.com:8080/x\n  x: y",
            Some(1),
            "Specifying ports is not supported. Skipping absolute URL https://a.com:8080/x.",
        ),
        (
            "/a\n  Content-Length: 3\n  x: y",
            Some(2),
            "Header content-length is set by the server and cannot be changed",
        ),
    ] {
        assert_eq!(warnings(text), [(line, expected.to_owned())], "{text}");
    }
}

#[test]
fn rules_beyond_the_limit_are_left_out() {
    let text: String = (0..103).map(|n| format!("/{n}\n  x: y\n")).collect();
    let found = warnings(&text);
    assert_eq!(found.len(), 1);
    assert!(
        found[0].1.starts_with("Maximum number of rules supported is 100. Skipping remaining"),
        "{found:?}"
    );
    assert_eq!(Headers::parse(&text).0.rules.len(), 100);
}

#[test]
fn rules_may_keep_the_body_as_it_is() {
    for (text, expected) in [
        ("/*\n  X: y", true),
        ("/*\n  Content-Encoding: gzip", false),
        ("/*\n  ! Content-Encoding", false),
        ("/*\n  Cache-Control: public, no-transform", false),
    ] {
        let (rules, _) = Headers::parse(text);
        assert_eq!(rules.matching("/a", "").leave_encoding(), expected, "{text}");
    }
}

proptest! {
    #[test]
    fn arbitrary_files_and_paths_never_panic(text in "(\\PC{0,40}\n){0,8}", line in "/[a-z:*]{0,9}\n \\PC{0,20}:\\PC{0,20}", path in "/\\PC{0,40}") {
        for text in [text, line] {
            let (rules, _) = Headers::parse(&text);
            rules.matching(&path, "https://h/").apply(&mut HeaderMap::new());
        }
    }
}

#[test]
fn a_hostile_file_takes_little_time_and_room() {
    let names: String = (0..800_000).map(|n| format!("x{n}:v\n")).collect();
    let (rules, warnings) = Headers::parse(&format!("/*\n{names}"));
    assert_eq!(rules.rules[0].set.len(), MAX_HEADERS);
    assert_eq!(warnings.len(), rule_url::MAX_WARNINGS);
    let (rules, _) = Headers::parse(&format!("/*\n{}", "x: vv\n".repeat(800_000)));
    let mut headers = HeaderMap::new();
    rules.matching("/", "https://a/").apply(&mut headers);
    assert!((4000..=MAX_VALUE).contains(&headers["x"].len()));
    // Many rules that all apply, and whose values become long.
    let lines: String = (0..200).map(|n| format!("x{n}: {}\n", ":a:b:c".repeat(300))).collect();
    let rules: String = (0..100).map(|n| format!("/:a/:b/:c/:d{n}\n{lines}")).collect();
    let (rules, _) = Headers::parse(&rules);
    let path = format!("/{}/{}/{}/d", ":b".repeat(50), ":c".repeat(50), "c".repeat(100));
    let mut headers = HeaderMap::new();
    rules.matching(&path, "https://a/").apply(&mut headers);
    assert!(headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>() <= MAX_SET);
}
