//! `multipart/form-data`, byte by byte as wrangler's `fetch` writes it.

use std::io::Write;

use bytes::Bytes;

/// A form.
#[derive(Clone, Debug, Default)]
pub struct Form(Vec<Part>);

#[derive(Clone, Debug)]
struct Part {
    name: String,
    /// The file's name and its type.
    file: Option<(String, String)>,
    content: Bytes,
}

impl Form {
    /// Adds a plain field.
    pub fn field(&mut self, name: &str, value: impl Into<Bytes>) {
        self.0.push(Part { name: name.to_owned(), file: None, content: value.into() });
    }

    /// Adds a file.
    pub fn file(&mut self, name: &str, file_name: &str, content_type: &str, content: Bytes) {
        let file = Some((file_name.to_owned(), content_type.to_owned()));
        self.0.push(Part { name: name.to_owned(), file, content });
    }

    /// Bytes of content.
    pub fn content_len(&self) -> usize {
        self.0.iter().map(|part| part.content.len()).sum()
    }

    /// The body with its `Content-Type`. Each part is let go of once it is in the body.
    pub fn encode(self) -> (String, Bytes) {
        let number = uuid::Uuid::new_v4().as_u128() % 100_000_000_000;
        self.encode_with(&format!("----formdata-skep-0{number:011}"))
    }

    fn encode_with(self, boundary: &str) -> (String, Bytes) {
        let mut body = Vec::with_capacity(self.content_len() + 200 * (self.0.len() + 1));
        for part in self.0 {
            let name = escape(&part.name);
            // Writing into memory does not fail.
            let _ = write!(body, "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"");
            if let Some((file_name, content_type)) = &part.file {
                let _ = write!(body, "; filename=\"{}\"\r\nContent-Type: {content_type}", escape(file_name));
            }
            body.extend_from_slice(b"\r\n\r\n");
            body.extend_from_slice(&part.content);
            body.extend_from_slice(b"\r\n");
        }
        let _ = write!(body, "--{boundary}--\r\n");
        (format!("multipart/form-data; boundary={boundary}"), body.into())
    }
}

/// <https://html.spec.whatwg.org/multipage/form-control-infrastructure.html#multipart-form-data>
fn escape(name: &str) -> String {
    name.replace('\r', "%0D").replace('\n', "%0A").replace('"', "%22")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_written_in_order_and_no_name_leaves_its_header() {
        let mut form = Form::default();
        form.field("metadata", "{}");
        form.file("a\"\r\nb", "x.js", "application/javascript+module", Bytes::from_static(b"\0\r\n"));
        let (content_type, body) = form.encode_with("B");
        assert_eq!(content_type, "multipart/form-data; boundary=B");
        let expected = "--B\r\nContent-Disposition: form-data; name=\"metadata\"\r\n\r\n{}\r\n--B\r\nContent-Disposition: \
                        form-data; name=\"a%22%0D%0Ab\"; filename=\"x.js\"\r\nContent-Type: \
                        application/javascript+module\r\n\r\n\0\r\n\r\n--B--\r\n";
        assert_eq!(String::from_utf8_lossy(&body), expected);
    }
}
