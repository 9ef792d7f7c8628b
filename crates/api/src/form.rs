//! Multipart forms, as the many clients send them.

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value as Json};

use crate::aside::aside;
use crate::call::Call;
use crate::description::schema::{fault, named};
use crate::reply::ApiError;

/// A form that is no script is not longer than this.
const MAX_FORM: usize = 128 << 20;
/// A part that is a JSON document is not longer than this.
const MAX_DOCUMENT: usize = 4 << 20;
/// Parts of a form at most.
const MAX_PARTS: usize = 10_000;

/// A part of a form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub name: String,
    pub file_name: Option<String>,
    pub content_type: Option<String>,
    pub bytes: Bytes,
}

/// A form: its parts in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Form(pub Vec<Part>);

impl Call {
    /// The body as a form; `None` if it is none.
    pub async fn form(&mut self) -> Result<Option<Form>, ApiError> {
        self.form_within(MAX_FORM).await
    }

    /// The same with another limit.
    pub async fn form_within(&mut self, limit: usize) -> Result<Option<Form>, ApiError> {
        let bytes = self.bytes(limit).await?;
        let Some(boundary) = boundary(&self.head.headers, &bytes) else {
            self.body = skep_wire::full(bytes).into();
            return Ok(None);
        };
        // All of it is there: nothing is waited for.
        aside(bytes.len(), move || parse(bytes, &boundary).now_or_never())
            .await?
            .unwrap_or_else(|| Err(ApiError::bad(10004, "Could not parse the form")))
            .map(Some)
    }
}

/// The boundary; taken from the body where a client forgets it in the header (the TypeScript SDK 7 does).
fn boundary(headers: &HeaderMap, body: &[u8]) -> Option<String> {
    let content_type =
        headers.get(http::header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if let Ok(boundary) = multer::parse_boundary(content_type) {
        return Some(boundary);
    }
    let line = body.strip_prefix(b"--")?.split(|&b| b == b'\r').next().filter(|line| line.len() <= 200)?;
    let next = body.get(2 + line.len()..)?.strip_prefix(b"\r\n")?;
    let header = next.get(..30)?.to_ascii_lowercase();
    header.starts_with(b"content-disposition: form-data").then(|| String::from_utf8(line.to_vec()).ok())?
}

async fn parse(body: Bytes, boundary: &str) -> Result<Form, ApiError> {
    let broken = |error: multer::Error| ApiError::bad(10004, format!("Could not parse the form: {error}"));
    let stream = futures_util::stream::once(async move { Ok::<_, std::io::Error>(body) });
    let mut parts = Vec::new();
    let mut multipart = multer::Multipart::new(stream, boundary);
    while let Some(field) = multipart.next_field().await.map_err(broken)? {
        if parts.len() == MAX_PARTS {
            return Err(ApiError::bad(10004, format!("The form has more than {MAX_PARTS} parts")));
        }
        parts.push(Part {
            name: field.name().unwrap_or_default().to_owned(),
            file_name: field.file_name().map(str::to_owned),
            content_type: field.content_type().map(ToString::to_string),
            bytes: field.bytes().await.map_err(broken)?,
        });
    }
    Ok(Form(parts))
}

impl Form {
    /// The JSON document in the part `name`, or in fields `name[a][b]`. `None` if there is neither.
    pub async fn document(&self, name: &str) -> Result<Option<Json>, ApiError> {
        if let Some(part) = self.0.iter().find(|part| part.name == name) {
            let bytes = part.bytes.clone();
            let size = bytes.len();
            if size > MAX_DOCUMENT {
                let text = format!("The part {name} is longer than {MAX_DOCUMENT} bytes");
                return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, 10027, text));
            }
            return aside(size, move || serde_json::from_slice(&bytes))
                .await?
                .map(Some)
                .map_err(|e| ApiError::bad(10021, format!("Could not parse the part {name} as JSON: {e}")));
        }
        let mut document = Json::Null;
        for part in &self.0 {
            let Some(path) = part.name.strip_prefix(name).and_then(brackets) else { continue };
            insert(&mut document, &path, String::from_utf8_lossy(&part.bytes).into_owned());
        }
        Ok((!document.is_null()).then_some(document))
    }

    /// The document in the part `name`, with the types of what the description calls `shape`.
    pub async fn typed_document(&self, name: &str, shape: &'static str) -> Result<Json, ApiError> {
        let invalid =
            |what: String| ApiError::bad(10021, format!("could not read content for part {name}{what}"));
        let document = self.document(name).await?;
        let document = document.filter(Json::is_object).ok_or_else(|| invalid(String::new()))?;
        let size = self.0.iter().find(|part| part.name == name).map_or(0, |part| part.bytes.len());
        let (document, fault) = aside(size, move || {
            let fault = fault(&named(shape), &document);
            (document, fault)
        })
        .await?;
        match fault {
            None => Ok(document),
            Some((at, what)) => Err(invalid(format!(": {name}{at} {what}"))),
        }
    }

    /// The parts that are neither `name` nor its fields.
    pub fn without<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Part> {
        self.0.iter().filter(move |part| {
            part.name != name && part.name.strip_prefix(name).and_then(brackets).is_none()
        })
    }
}

/// `[a][][b]` to `a`, ``, `b`.
fn brackets(text: &str) -> Option<Vec<&str>> {
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    let path: Vec<&str> = inner.split("][").collect();
    (path.len() <= 16).then_some(path)
}

/// Puts a field in its place. `[]` is a list; a key that repeats starts the list's next object.
fn insert(at: &mut Json, path: &[&str], value: String) {
    let Some((key, rest)) = path.split_first() else {
        *at = scalar(value);
        return;
    };
    if key.is_empty() {
        if !at.is_array() {
            *at = Json::Array(Vec::new());
        }
        let Json::Array(list) = at else { return };
        let goes_on = matches!((list.last(), rest.first()), (Some(last), Some(_)) if !has(last, rest));
        if !goes_on {
            list.push(Json::Null);
        }
        if let Some(last) = list.last_mut() {
            insert(last, rest, value);
        }
        return;
    }
    if !at.is_object() {
        *at = Json::Object(Map::new());
    }
    if let Json::Object(object) = at {
        insert(object.entry(*key).or_insert(Json::Null), rest, value);
    }
}

/// Whether the value at `path` is set already; lists can always take one more.
fn has(at: &Json, path: &[&str]) -> bool {
    match path.split_first() {
        None => !at.is_null(),
        Some((&"", _)) => false,
        Some((key, rest)) => at.get(key).is_some_and(|inner| has(inner, rest)),
    }
}

/// The form has no types: what can only be a boolean is one.
fn scalar(text: String) -> Json {
    match text.as_str() {
        "true" => Json::Bool(true),
        "false" => Json::Bool(false),
        _ => Json::String(text),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn field(name: &str, value: &str) -> Part {
        Part {
            name: name.into(),
            file_name: None,
            content_type: None,
            bytes: Bytes::copy_from_slice(value.as_bytes()),
        }
    }

    #[test]
    fn bracket_fields_become_a_document() {
        let form = Form(vec![
            field("metadata[main_module]", "a.js"),
            field("metadata[compatibility_flags][]", "x"),
            field("metadata[compatibility_flags][]", "y"),
            field("metadata[bindings][][type]", "plain_text"),
            field("metadata[bindings][][name]", "A"),
            field("metadata[bindings][][type]", "kv_namespace"),
            field("metadata[bindings][][name]", "B"),
            field("metadata[observability][enabled]", "true"),
            field("a.js", "code"),
        ]);
        let document = form.document("metadata").now_or_never().unwrap().unwrap().unwrap();
        assert_eq!(
            document,
            json!({
                "main_module": "a.js", "compatibility_flags": ["x", "y"],
                "bindings": [{ "type": "plain_text", "name": "A" }, { "type": "kv_namespace", "name": "B" }],
                "observability": { "enabled": true },
            })
        );
        assert_eq!(form.without("metadata").count(), 1);
    }

    #[tokio::test]
    async fn a_boundary_that_the_header_lacks_is_taken_from_the_body() {
        let body = b"--xyz\r\nContent-Disposition: form-data; name=\"a\"; filename=\"b/c.js\"\r\n\r\n1\r\n--xyz--\r\n";
        let found = boundary(&HeaderMap::new(), body).unwrap();
        let form = parse(Bytes::from_static(body), &found).await.unwrap();
        assert_eq!(form.0[0].file_name.as_deref(), Some("b/c.js"));
        assert_eq!(boundary(&HeaderMap::new(), b"export default {}"), None);
    }

    proptest::proptest! {
        #[test]
        fn any_fields_become_some_document(names in proptest::collection::vec("metadata(\\[[a-c]?\\]){0,5}", 0..20)) {
            let form = Form(names.iter().map(|name| field(name, "1")).collect());
            let _ = form.document("metadata").now_or_never().unwrap();
        }

        #[test]
        fn any_bytes_are_a_form_or_an_error(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let body = [b"--x\r\nContent-Disposition: form-data; ", &bytes[..]].concat();
            if let Some(found) = boundary(&HeaderMap::new(), &body) {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                let _ = runtime.block_on(parse(body.into(), &found));
            }
        }
    }
}
