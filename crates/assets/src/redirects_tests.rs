use proptest::prelude::*;

use super::*;

const ORIGIN: Origin<'_> = Origin { scheme: "https", authority: "example.com" };

fn rules(text: &str) -> Redirects {
    let (rules, warnings) = Redirects::parse(text, HtmlHandling::AutoTrailingSlash);
    assert_eq!(warnings, []);
    rules
}

fn location(text: &str, path: &str, query: Option<&str>) -> Option<(u16, String)> {
    match rules(text).apply(path, query, ORIGIN)? {
        Redirected::To(status, location) => Some((status.as_u16(), location)),
        Redirected::Rewritten(path) => Some((200, path)),
        Redirected::Broken => Some((500, String::new())),
    }
}

fn warnings(text: &str) -> Vec<(Option<usize>, String)> {
    let (_, warnings) = Redirects::parse(text, HtmlHandling::AutoTrailingSlash);
    warnings.into_iter().map(|w| (w.line_number, w.message)).collect()
}

#[test]
fn a_request_goes_where_its_rule_says() {
    let go = |text: &str, path: &str, query| location(text, path, query).unwrap();
    assert_eq!(go("/a /b", "/a", None), (302, "/b".to_owned()));
    assert_eq!(go("/a /b 301 # moved", "/a", Some("x=1")), (301, "/b?x=1".to_owned()));
    assert_eq!(go("/a /b?y=2 308", "/a", Some("x=1")), (308, "/b?y=2".to_owned()));
    assert_eq!(go("/a /b#part 303", "/a", Some("x")), (303, "/b?x#part".to_owned()));
    assert_eq!(go("/a https://other.com/b 307", "/a", Some("x")), (307, "https://other.com/b?x".to_owned()));
    assert_eq!(go("/a https://example.com/b", "/a", None), (302, "/b".to_owned()));
    assert_eq!(go("/blog/* /news/:splat", "/blog/2024/x", None), (302, "/news/2024/x".to_owned()));
    assert_eq!(go("/:year/:page /p/:page/:year", "/2024/x", None), (302, "/p/x/2024".to_owned()));
    assert_eq!(go("/app/* /app.html 200", "/app/x", None), (200, "/app.html".to_owned()));
    assert_eq!(
        go("/ext/:x https://e.com/:x?y=1#z 308", "/ext/q", Some("q=2")),
        (308, "https://e.com/q?y=1#z".to_owned())
    );
    assert_eq!(location("/a /b", "/c", None), None);
}

#[test]
fn a_splat_cannot_send_the_client_to_another_host() {
    assert_eq!(location("/go/* /:splat", "/go//evil.com/x", None), Some((302, "/evil.com/x".to_owned())));
}

#[test]
fn exact_rules_come_before_patterns_unless_they_stand_below_one() {
    assert_eq!(location("/a /exact\n/* /pattern", "/a", None), Some((302, "/exact".to_owned())));
    assert_eq!(location("/* /pattern\n/a /exact", "/a", None), Some((302, "/pattern".to_owned())));
    assert_eq!(location("/x/* /pattern\n/a /exact", "/a", None), Some((302, "/exact".to_owned())));
}

#[test]
fn wrong_lines_are_reported_and_left_out() {
    for (line, expected) in [
        ("/bad", "Expected exactly 2 or 3 whitespace-separated tokens. Got 1."),
        ("/a /b 302 x", "Expected exactly 2 or 3 whitespace-separated tokens. Got 4."),
        ("/a /b 404", "Valid status codes are 200, 301, 302 (default), 303, 307, or 308. Got 404."),
        ("/a /b never", "Valid status codes are 200, 301, 302 (default), 303, 307, or 308. Got never."),
        ("https://x.com/a /b", "Only relative URLs are allowed. Skipping absolute URL https://x.com/a."),
        (
            "/a https://x.com/b 200",
            "Proxy (200) redirects can only point to relative paths. Got https://x.com/b",
        ),
    ] {
        assert_eq!(warnings(line), [(Some(1), expected.to_owned())], "{line}");
    }
    assert!(warnings("/* /index.html 200")[0].1.starts_with("Infinite loop detected"));
    assert!(warnings("/ /index")[0].1.starts_with("Infinite loop detected"));
    assert_eq!(
        warnings("/a /b\n\n# c\n/a /c"),
        [(Some(4), "Ignoring duplicate rule for path /a.".to_owned())]
    );
    let long = format!("/a /{}", "b".repeat(2000));
    assert_eq!(
        warnings(&long),
        [(None, "Ignoring line 1 as it exceeds the maximum allowed length of 2000.".to_owned())]
    );
    let (rules, _) = Redirects::parse("/ /index", HtmlHandling::None);
    assert_eq!(rules.fixed.len(), 1);
}

#[test]
fn rules_beyond_the_limits_are_left_out() {
    let many = |n: usize, end: &str| (0..n).map(|i| format!("/{i}{end} /x\n")).collect::<String>();
    assert_eq!(
        warnings(&many(2001, "")),
        [(None, "Maximum number of static rules supported is 2000. Skipping line.".to_owned())]
    );
    assert_eq!(
        warnings(&many(105, "/*")),
        [(
            None,
            "Maximum number of dynamic rules supported is 100. Skipping remaining 6 lines of file."
                .to_owned()
        )]
    );
}

proptest! {
    #[test]
    fn arbitrary_files_and_paths_never_panic(text in "\\PC{0,200}", line in "/[a-z:*/]{0,20} \\PC{0,20} (200|301)?", path in "/\\PC{0,40}") {
        for text in [text, line] {
            let (rules, _) = Redirects::parse(&text, HtmlHandling::AutoTrailingSlash);
            let _ = rules.apply(&path, Some("a=b"), ORIGIN);
        }
    }
}
