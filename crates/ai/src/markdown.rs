//! `env.AI.toMarkdown()`: files in JSON, as the form that Cloudflare's REST API takes. Pure.
//! <https://developers.cloudflare.com/workers-ai/features/markdown-conversion/>

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::AiError;

#[derive(Deserialize)]
struct Asked<'a> {
    #[serde(borrow)]
    files: Vec<File<'a>>,
    #[serde(borrow)]
    options: Option<Options<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File<'a> {
    name: String,
    mime_type: String,
    #[serde(borrow)]
    data: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Options<'a> {
    #[serde(borrow)]
    conversion_options: Option<&'a RawValue>,
}

/// A form and its type.
pub(crate) fn form(body: &[u8]) -> Result<(Vec<u8>, String), AiError> {
    let asked: Asked<'_> = serde_json::from_slice(body).map_err(AiError::bad_input)?;
    let boundary = uuid::Uuid::new_v4().simple().to_string();
    let mut form = Vec::with_capacity(body.len());
    for file in &asked.files {
        let content = STANDARD.decode(file.data.as_bytes()).map_err(|_| AiError::bad_base64("string"))?;
        let head = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"files\"; filename=\"{}\"\r\nContent-Type: {}\r\n\r\n",
            quoted(&file.name),
            one_line(&file.mime_type),
        );
        form.extend_from_slice(head.as_bytes());
        form.extend_from_slice(&content);
        form.extend_from_slice(b"\r\n");
    }
    if let Some(options) = asked.options.and_then(|options| options.conversion_options) {
        let part = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"conversionOptions\"\r\n\r\n{}\r\n",
            options.get()
        );
        form.extend_from_slice(part.as_bytes());
    }
    form.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    Ok((form, format!("multipart/form-data; boundary={boundary}")))
}

/// A name between quotes, as browsers write it.
fn quoted(name: &str) -> String {
    name.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A")
}

fn one_line(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn files_become_parts_and_no_name_becomes_a_header() {
        let file =
            json!({ "name": "a\"\r\nX: y.pdf", "mimeType": "application/pdf\r\nX: y", "data": "AQI=" });
        let asked =
            json!({ "files": [file], "options": { "conversionOptions": { "pdf": { "metadata": false } } } });
        let (form, kind) = form(asked.to_string().as_bytes()).unwrap();
        let boundary = kind.split_once("boundary=").unwrap().1;
        let expected = "--B\r\nContent-Disposition: form-data; name=\"files\"; filename=\"a%22%0D%0AX: y.pdf\"\r\n\
            Content-Type: application/pdfX: y\r\n\r\n\u{1}\u{2}\r\n--B\r\nContent-Disposition: form-data; \
            name=\"conversionOptions\"\r\n\r\n{\"pdf\":{\"metadata\":false}}\r\n--B--\r\n";
        assert_eq!(String::from_utf8(form).unwrap().replace(boundary, "B"), expected);
    }
}
