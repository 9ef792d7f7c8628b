//! wrangler's globs, which are those of the npm package `glob-to-regexp`.

/// A pattern for esbuild, of the loose kind that imports are matched by: any `*` passes over any text.
pub(crate) fn import_pattern(glob: &str) -> String {
    let mut out = String::from("^");
    let mut rest = glob.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '*' => {
                while rest.next_if_eq(&'*').is_some() {}
                out.push_str(".*");
            }
            c => push_escaped(&mut out, c),
        }
    }
    out.push('$');
    out
}

/// `text` as a pattern that matches nothing else.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::new();
    text.chars().for_each(|c| push_escaped(&mut out, c));
    out
}

fn push_escaped(out: &mut String, c: char) {
    if "\\^$.|?*+()[]{}/=!,-".contains(c) && !"/=!,-".contains(c) {
        out.push('\\');
    }
    out.push(c);
}

/// Whether the file `path` matches, by the strict kind: `**` alone between slashes passes over folders, `*` stays
/// within one name. Time grows with the product of both lengths.
pub(crate) fn matches_file(glob: &str, path: &str) -> bool {
    let tokens = tokens(glob);
    let path: Vec<char> = path.chars().collect();
    // `reached[n]`: the tokens so far match the first n characters.
    let mut reached = vec![false; path.len() + 1];
    reached[0] = true;
    for token in tokens {
        let mut next = vec![false; path.len() + 1];
        let mut open = false;
        for at in 0..=path.len() {
            match token {
                Token::Char(c) => next[at] = at > 0 && reached[at - 1] && path[at - 1] == c,
                Token::Star => {
                    open = reached[at] || (open && path[at - 1] != '/');
                    next[at] = open;
                }
                // Nothing, or any text up to and with a slash, or all that is left.
                Token::Folders => {
                    let whole = open && (path[at - 1] == '/' || at == path.len());
                    next[at] = reached[at] || whole;
                    open = open || reached[at];
                }
            }
        }
        reached = next;
    }
    reached.last() == Some(&true)
}

#[derive(Clone, Copy)]
enum Token {
    Char(char),
    Star,
    Folders,
}

fn tokens(glob: &str) -> Vec<Token> {
    let chars: Vec<char> = glob.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        if chars[at] != '*' {
            tokens.push(Token::Char(chars[at]));
            at += 1;
            continue;
        }
        let stars = chars[at..].iter().take_while(|c| **c == '*').count();
        let starts = at == 0 || chars[at - 1] == '/';
        let after = chars.get(at + stars);
        at += stars;
        if stars > 1 && starts && matches!(after, None | Some('/')) {
            tokens.push(Token::Folders);
            at += 1;
        } else {
            tokens.push(Token::Star);
        }
    }
    tokens
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn two_stars_pass_over_folders_and_one_does_not() {
        for (glob, path, expected) in [
            ("**/*.txt", "a.txt", true),
            ("**/*.txt", "a/b/c.txt", true),
            ("*.txt", "a/b.txt", false),
            ("a/**/b.js", "a/b.js", true),
            ("a/**/b.js", "a/x/y/b.js", true),
            ("a/**/b.js", "axb.js", false),
            ("a/**", "a/x/y", true),
            ("**/*.js", "a.jsx", false),
            ("a**b", "a/b", false),
            ("**/*.wasm?module", "a.wasm?module", true),
            ("**/*.wasm?module", "a.wasmxmodule", false),
        ] {
            assert_eq!(matches_file(glob, path), expected, "{glob} {path}");
        }
    }

    #[test]
    fn patterns_of_imports_escape_what_means_something_to_them() {
        assert_eq!(import_pattern("**/*.wasm?module"), r"^.*/.*\.wasm\?module$");
    }

    proptest! {
        #[test]
        fn any_glob_and_path_are_decided(glob in "[ab*/.]{0,12}", path in "[ab/.]{0,12}") {
            matches_file(&glob, &path);
        }

        #[test]
        fn a_name_matches_itself(path in "[a-z/.]{0,12}") {
            prop_assert!(matches_file(&path, &path));
        }
    }
}
