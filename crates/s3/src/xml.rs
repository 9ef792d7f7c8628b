//! XML as S3 speaks it: what is written, and the little that is read.

use quick_xml::Reader;
use quick_xml::events::Event;

const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";
/// Elements within each other: no document of S3 has more than six.
const DEEPEST: usize = 16;
/// Elements of a document that is read: ten thousand parts with all that is said of each have 90,001.
const MOST: usize = 100_000;

/// A document that is written.
pub(crate) struct Xml(String);

impl Default for Xml {
    fn default() -> Self {
        Self("<?xml version=\"1.0\" encoding=\"UTF-8\"?>".to_owned())
    }
}

impl Xml {
    /// A document whose root is of S3's namespace; [`Xml::close`] it at the end.
    pub fn of(root: &str) -> Self {
        let mut this = Self::default();
        this.0.push_str(&format!("<{root} xmlns=\"{NAMESPACE}\">"));
        this
    }

    pub fn open(&mut self, name: &str) {
        self.0.push_str(&format!("<{name}>"));
    }

    pub fn close(&mut self, name: &str) {
        self.0.push_str(&format!("</{name}>"));
    }

    /// An element with a text.
    pub fn text(&mut self, name: &str, value: &str) {
        self.open(name);
        self.chars(value);
        self.close(name);
    }

    /// An element with a text, if there is one.
    pub fn maybe(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }

    pub fn chars(&mut self, value: &str) {
        for c in value.chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&apos;"),
                // Readers would make a line feed of it.
                '\r' => self.0.push_str("&#13;"),
                c => self.0.push(c),
            }
        }
    }

    pub fn finish(self) -> String {
        self.0
    }
}

/// An element that was read: its name without a prefix, its text, the elements in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Element {
    pub name: String,
    pub text: String,
    pub children: Vec<Self>,
}

impl Element {
    /// The root of a document; `None` if it is not well formed.
    pub fn read(document: &[u8]) -> Option<Self> {
        let mut reader = Reader::from_str(std::str::from_utf8(document).ok()?);
        reader.config_mut().check_end_names = true;
        let mut open: Vec<Self> = Vec::new();
        let mut root = None;
        let mut left = MOST;
        loop {
            let done = match reader.read_event().ok()? {
                Event::Start(start) => {
                    if root.is_some() || open.len() >= DEEPEST {
                        return None;
                    }
                    open.push(Self::named(start.local_name().as_ref()));
                    None
                }
                Event::Empty(start) => Some(Self::named(start.local_name().as_ref())),
                Event::End(_) => Some(open.pop()?),
                Event::Text(text) => {
                    match open.last_mut() {
                        Some(element) => element.text.push_str(&text),
                        None if text.trim().is_empty() => {}
                        None => return None,
                    }
                    None
                }
                Event::CData(text) => {
                    open.last_mut()?.text.push_str(&text);
                    None
                }
                Event::GeneralRef(reference) => {
                    let named = match reference.resolve_char_ref().ok()? {
                        Some(c) => c,
                        None => match &*reference {
                            "amp" => '&',
                            "lt" => '<',
                            "gt" => '>',
                            "quot" => '"',
                            "apos" => '\'',
                            // There are no others without a document type, and those are not read.
                            _ => return None,
                        },
                    };
                    open.last_mut()?.text.push(named);
                    None
                }
                Event::Decl(_) | Event::Comment(_) | Event::PI(_) => None,
                Event::DocType(_) => return None,
                Event::Eof => return root.filter(|_| open.is_empty()),
            };
            let Some(done) = done else { continue };
            left = left.checked_sub(1)?;
            match open.last_mut() {
                Some(parent) => parent.children.push(done),
                None if root.is_none() => root = Some(done),
                None => return None,
            }
        }
    }

    fn named(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// The elements of that name in it.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The first element of that name in it.
    pub fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    /// The text of the first element of that name in it.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.child(name).map(|child| child.text.as_str())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_document_is_read() {
        let text = br#"<?xml version="1.0"?>
            <Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Object><Key>a&amp;&#x62; c</Key></Object><Quiet/></Delete> "#;
        let root = Element::read(text).unwrap();
        assert_eq!((root.name.as_str(), root.children.len()), ("Delete", 2));
        assert_eq!(root.child("Object").unwrap().value("Key"), Some("a&b c"));
        assert_eq!(root.value("Quiet"), Some(""));
        assert_eq!(root.all("Object").count(), 1);
    }

    #[test]
    fn what_is_not_well_formed_is_none() {
        let many = format!("<a>{}</a>", "<b/>".repeat(MOST));
        assert_eq!(Element::read(many.as_bytes()), None, "too many");
        assert!(Element::read(many.replacen("<b/>", "", 1).as_bytes()).is_some());
        let deep = format!("{}{}", "<a>".repeat(20), "</a>".repeat(20));
        for text in [
            "",
            "text",
            "<a>",
            "<a></b>",
            "<a/><b/>",
            "<a>&other;</a>",
            "<!DOCTYPE a [<!ENTITY x \"y\">]><a>&x;</a>",
            &deep,
        ] {
            assert_eq!(Element::read(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(text in "[^\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\u{fffe}\\u{ffff}]*") {
            let mut xml = Xml::of("Root");
            xml.text("Key", &text);
            xml.close("Root");
            let root = Element::read(xml.finish().as_bytes()).unwrap();
            prop_assert_eq!(root.value("Key"), Some(text.as_str()));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Element::read(&bytes);
        }

        #[test]
        fn anything_like_xml_is_read_or_refused(text in "(<[a-c/!?]{0,3}[ a=\"]{0,4}>|&[a-z#0-9]{0,4};|[ab])*") {
            let _ = Element::read(text.as_bytes());
        }
    }
}
