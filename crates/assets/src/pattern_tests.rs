use proptest::prelude::*;

use super::*;

fn captured(rule: &str, text: &str) -> Option<Vec<(String, String)>> {
    let found = Pattern::new(rule)?.matches(text)?;
    Some(found.into_iter().map(|(name, value)| (name, value.to_owned())).collect())
}

fn pairs(expected: &[(&str, &str)]) -> Option<Vec<(String, String)>> {
    Some(expected.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect())
}

#[test]
fn a_placeholder_is_one_segment_and_a_splat_is_anything() {
    assert_eq!(captured("/blog/:post", "/blog/hello"), pairs(&[("post", "hello")]));
    assert_eq!(captured("/blog/:post", "/blog/a/b"), None);
    assert_eq!(captured("/blog/:post", "/blog/"), None);
    assert_eq!(captured("/blog/*", "/blog/a/b"), pairs(&[("splat", "a/b")]));
    assert_eq!(captured("/blog/*", "/blog/"), pairs(&[("splat", "")]));
    assert_eq!(captured("/*/end", "/a/b/end"), pairs(&[("splat", "a/b")]));
    assert_eq!(captured("/:a/x/*", "/1/x/2/3"), pairs(&[("a", "1"), ("splat", "2/3")]));
    assert_eq!(captured("/:a-:b", "/1-2-3"), pairs(&[("a", "1-2"), ("b", "3")]));
    assert_eq!(captured("/:a:b", "/123"), pairs(&[("a", "12"), ("b", "3")]));
    assert_eq!(captured("/a.b", "/aXb"), None);
    assert_eq!(captured("/:9a", "/:9a"), pairs(&[]));
}

#[test]
fn a_host_placeholder_is_one_label() {
    let rule = "https://:sub.example.com/:page";
    assert_eq!(captured(rule, "https://www.example.com/x.y"), pairs(&[("sub", "www"), ("page", "x.y")]));
    assert_eq!(captured(rule, "https://a.b.example.com/x"), None);
    assert!(Pattern::new(rule).unwrap().with_host);
}

#[test]
fn a_variable_that_occurs_twice_makes_the_rule_void() {
    assert_eq!(Pattern::new("/:a/:a"), None);
    assert_eq!(Pattern::new("/*/*"), None);
    assert_eq!(Pattern::new("/:splat/*"), None);
}

#[test]
fn filling_replaces_every_occurrence() {
    let captures = vec![("a".to_owned(), "1"), ("splat".to_owned(), "x/y")];
    assert_eq!(fill("/:a/:splat?q=:a&ab=:ab", &captures).unwrap(), "/1/x/y?q=1&ab=1b");
}

#[test]
fn what_is_filled_in_again_and_again_has_an_end() {
    let path = format!("/{}/{}/{}", ":b".repeat(1000), ":c".repeat(1000), ":d".repeat(1000));
    let captures = Pattern::new("/:a/:b/:c").unwrap();
    let captures = captures.matches(&path).unwrap();
    assert_eq!(fill(&":a".repeat(600), &captures), None);
    assert_eq!(fill(":a", &captures), None);
    assert_eq!(fill(":c", &captures).unwrap().len(), 2000);
}

#[test]
fn a_rule_of_many_variables_is_not_for_long_paths() {
    let rule: String = (0..600).map(|n| format!("/:v{n}")).collect();
    let pattern = Pattern::new(&rule).unwrap();
    assert!(pattern.matches(&"/a".repeat(600)).is_none());
    let two = Pattern::new("/:a/x/*").unwrap();
    assert!(two.matches(&format!("/a/x/{}", "b".repeat(16 << 10))).is_some());
    let thirty: String = (0..30).map(|n| format!("/:v{n}")).collect();
    assert!(Pattern::new(&thirty).unwrap().matches(&format!("/{}", "b".repeat(30)).repeat(30)).is_some());
}

#[test]
fn globs_are_anchored_and_cross_slashes() {
    for (rule, path, expected) in [
        ("/api/*", "/api/a/b", true),
        ("/api/*", "/api/", true),
        ("/api/*", "/api", false),
        ("/api", "/api/x", false),
        ("/*.php", "/a/b.php", true),
        ("/*.php", "/a/b.phpx", false),
        ("/a*b*c", "/a-b-b-c", true),
        ("/a*a", "/a", false),
        ("/*", "/", true),
        ("/a.c", "/abc", false),
    ] {
        assert_eq!(Glob::new(rule).matches(path), expected, "{rule} {path}");
    }
}

#[test]
fn a_hostile_pattern_is_matched_in_linear_time() {
    let rule: String = std::iter::once("/".to_owned()).chain((0..300).map(|n| format!(":v{n}"))).collect();
    let path = format!("/{}/", "a".repeat(8000));
    assert_eq!(captured(&rule, &path), None);
}

/// The plain definition: try every length for each variable, the longest first.
fn backtrack(parts: &[Part], text: &str) -> Option<Vec<(String, String)>> {
    match parts.split_first() {
        None => text.is_empty().then(Vec::new),
        Some((Part::Literal(literal), rest)) => backtrack(rest, text.strip_prefix(literal.as_str())?),
        Some((Part::Variable { name, kind }, rest)) => {
            let longest = text.bytes().take_while(|b| kind.takes(*b)).count();
            (usize::from(*kind != Kind::Splat)..=longest).rev().find_map(|len| {
                let mut found = backtrack(rest, &text[len..])?;
                found.insert(0, (name.clone(), text[..len].to_owned()));
                Some(found)
            })
        }
    }
}

proptest! {
    #[test]
    fn matching_agrees_with_plain_backtracking(
        rule in "/(:[a-c]|[xy/.]|\\*){0,6}",
        text in "/[xy/.]{0,10}",
    ) {
        if let Some(pattern) = Pattern::new(&rule) {
            prop_assert_eq!(captured(&rule, &text), backtrack(&pattern.parts, &text));
        }
    }

    #[test]
    fn nothing_panics(rule in "\\PC{0,30}", text in "\\PC{0,30}") {
        let _ = Pattern::new(&rule).and_then(|p| p.matches(&text).map(|c| fill(&rule, &c)));
        let _ = Glob::new(&rule).matches(&text);
        let _ = is_dynamic(&rule);
    }
}
