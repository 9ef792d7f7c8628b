//! What things are called. Pure.

use std::fmt;

/// The most bytes of a name, with its account.
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

/// The name of a repository within its account: `app/web`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Repository(String);

/// `sha256:` and 64 hexadecimal digits in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(String);

/// A name of a manifest that may come to mean another one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(String);

/// How a manifest is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// By what it is.
    Digest(Digest),
    /// By what it is called now.
    Tag(Tag),
}

impl Repository {
    /// Reads a name; `None` if no repository can be called so.
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() <= MAX_NAME && text.split('/').all(is_component)).then(|| Self(text.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Letters and digits in lower case, between which there may be `.`, `_`, `__` or any number of dashes.
fn is_component(text: &str) -> bool {
    let mut rest = text;
    loop {
        let end = rest.find(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit())).unwrap_or(rest.len());
        if end == 0 {
            return false;
        }
        rest = &rest[end..];
        if rest.is_empty() {
            return true;
        }
        let end = rest.find(|c: char| !matches!(c, '.' | '_' | '-')).unwrap_or(rest.len());
        let separator = &rest[..end];
        if !matches!(separator, "." | "_" | "__") && (separator.is_empty() || separator.contains(['.', '_']))
        {
            return false;
        }
        rest = &rest[end..];
    }
}

impl Digest {
    /// Reads a digest; `None` if it is not one of SHA-256.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("sha256:")?;
        let fits = digits.len() == 64 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        fits.then(|| Self(text.to_owned()))
    }

    /// Of a hash.
    pub(crate) fn of(hash: &[u8]) -> Self {
        Self(format!("sha256:{}", hex::encode(hash)))
    }

    /// With `sha256:` before it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Tag {
    /// Reads a tag.
    pub fn parse(text: &str) -> Option<Self> {
        let may_begin = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
        let fits = text.len() <= MAX_TAG
            && text.as_bytes().first().is_some_and(may_begin)
            && text.bytes().all(|b| may_begin(&b) || matches!(b, b'.' | b'-'));
        fits.then(|| Self(text.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Reference {
    /// Reads what stands for a manifest.
    pub fn parse(text: &str) -> Option<Self> {
        match text.contains(':') {
            true => Digest::parse(text).map(Self::Digest),
            false => Tag::parse(text).map(Self::Tag),
        }
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Digest(digest) => digest.as_str(),
            Self::Tag(tag) => tag.as_str(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_those_of_the_specification() {
        for good in ["a", "a/b", "a.b_c__d---e/0", "app-web", &"a".repeat(255)] {
            assert!(Repository::parse(good).is_some(), "{good}");
        }
        for bad in [
            "", "/", "a/", "/a", "a//b", "..", "a/..", "../a", "A", "a..b", "a___b", "a.-b", "-a", "a-",
            "a b", "é", "a\0", "a%2fb", "_catalog",
        ] {
            assert!(Repository::parse(bad).is_none(), "{bad}");
        }
        assert!(Repository::parse(&"a".repeat(256)).is_none());
    }

    #[test]
    fn a_digest_is_of_one_form_only() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        assert_eq!(Digest::parse(&digest).unwrap().as_str(), digest);
        for bad in [digest.to_uppercase(), digest[..70].to_owned(), format!("{digest}0"), "md5:00".into()] {
            assert!(Digest::parse(&bad).is_none() && Reference::parse(&bad).is_none(), "{bad}");
        }
        assert!(matches!(Reference::parse("v1.0-x_y"), Some(Reference::Tag(_))));
        for bad in ["", ".a", "-a", "a/b", "a b", &"a".repeat(129)] {
            assert!(Reference::parse(bad).is_none(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_a_name_can_be_part_of_a_path(text in "\\PC{0,40}") {
            if let Some(name) = Repository::parse(&text) {
                prop_assert!(name.as_str().split('/').all(|part| !part.is_empty() && part != "." && part != ".."));
                prop_assert!(!name.as_str().contains(['\0', '\\', '%', '?', '#', ' ']));
            }
        }

        #[test]
        fn names_that_the_grammar_makes_are_taken(
            text in "[a-z0-9]{1,4}((\\.|_|__|-{1,3})[a-z0-9]{1,3}){0,3}(/[a-z0-9]{1,4}((\\.|_|__|-{1,3})[a-z0-9]{1,3}){0,2}){0,3}"
        ) {
            prop_assert!(Repository::parse(&text).is_some());
        }
    }
}
