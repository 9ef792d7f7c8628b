//! `multipart/form-data`, byte by byte as wrangler's `fetch` writes it.

use std::io::Write;

use bytes::Bytes;

/// A form, written as it grows: a large content is in memory once.
#[derive(Clone, Debug)]
pub struct Form {
    boundary: String,
    body: Vec<u8>,
}

impl Default for Form {
    fn default() -> Self {
        let number = uuid::Uuid::new_v4().as_u128() % 100_000_000_000;
        Self { boundary: format!("----formdata-skep-0{number:011}"), body: Vec::new() }
    }
}

impl Form {
    /// Adds a plain field.
    pub fn field(&mut self, name: &str, value: &[u8]) {
        self.head(name, None);
        self.body.extend_from_slice(value);
        self.body.extend_from_slice(b"\r\n");
    }

    /// Adds a file.
    pub fn file(&mut self, name: &str, file_name: &str, content_type: &str, content: &[u8]) {
        self.head(name, Some((file_name, content_type)));
        self.body.extend_from_slice(content);
        self.body.extend_from_slice(b"\r\n");
    }

    /// What precedes the content of a file, which is sent beside this form and followed by a line's end.
    pub(crate) fn file_head(&self, name: &str, content_type: &str) -> Bytes {
        let mut part = Self { boundary: self.boundary.clone(), body: Vec::new() };
        part.head(name, Some((name, content_type)));
        part.body.into()
    }

    fn head(&mut self, name: &str, file: Option<(&str, &str)>) {
        let (boundary, name) = (&self.boundary, escape(name));
        // Writing into memory does not fail.
        let _ = write!(self.body, "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"");
        if let Some((file_name, content_type)) = file {
            let file_name = escape(file_name);
            let _ = write!(self.body, "; filename=\"{file_name}\"\r\nContent-Type: {content_type}");
        }
        self.body.extend_from_slice(b"\r\n\r\n");
    }

    /// The body with its `Content-Type`.
    pub fn finish(mut self) -> (String, Bytes) {
        let _ = write!(self.body, "--{}--\r\n", self.boundary);
        (format!("multipart/form-data; boundary={}", self.boundary), self.body.into())
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
        let mut form = Form { boundary: "B".into(), body: Vec::new() };
        form.field("metadata", b"{}");
        form.file("a\"\r\nb", "x.js", "application/javascript+module", b"\0\r\n");
        form.file("h", "h", "text/css", b"a{}b");
        let (content_type, body) = form.finish();
        assert_eq!(content_type, "multipart/form-data; boundary=B");
        let expected = "--B\r\nContent-Disposition: form-data; name=\"metadata\"\r\n\r\n{}\r\n--B\r\nContent-Disposition: \
                        form-data; name=\"a%22%0D%0Ab\"; filename=\"x.js\"\r\nContent-Type: \
                        application/javascript+module\r\n\r\n\0\r\n\r\n--B\r\nContent-Disposition: form-data; name=\"h\"; \
                        filename=\"h\"\r\nContent-Type: text/css\r\n\r\na{}b\r\n--B--\r\n";
        assert_eq!(String::from_utf8_lossy(&body), expected);
    }
}
