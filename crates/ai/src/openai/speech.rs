//! Speech to text: a form with the audio as a file.

use super::{Answer, Call};
use crate::error::AiError;
use crate::fields::Fields;
use crate::models::Target;

/// Inputs and what OpenAI's API calls them.
const TEXTS: &[(&str, &str)] = &[("language", "language"), ("initial_prompt", "prompt")];

/// The call; `content_type` is what the audio is said to be.
pub(super) fn call(
    target: &Target,
    fields: &Fields<'_>,
    audio: &[u8],
    content_type: Option<&str>,
) -> Result<Call, AiError> {
    let translates = fields.text("task")?.is_some_and(|task| task == "translate");
    let path = if translates { "/audio/translations" } else { "/audio/transcriptions" };
    // Random: no audio has it in it.
    let boundary = uuid::Uuid::new_v4().simple().to_string();
    let mut body = Vec::with_capacity(audio.len() + 1024);
    let mut texts = vec![("model", target.upstream.clone()), ("response_format", "json".to_owned())];
    for (own, theirs) in TEXTS {
        texts.extend(fields.text(own)?.map(|text| (*theirs, text)));
    }
    for (name, text) in texts {
        let part =
            format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{text}\r\n");
        body.extend_from_slice(part.as_bytes());
    }
    let (kind, ending) = kind(audio, content_type);
    let head = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"audio.{ending}\"\r\n\
         Content-Type: {kind}\r\n\r\n"
    );
    body.extend_from_slice(head.as_bytes());
    body.extend_from_slice(audio);
    body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    let content_type = format!("multipart/form-data; boundary={boundary}");
    Ok(Call { path, content_type, body: body.into(), answer: Answer::Speech })
}

/// The type and the ending of an audio file, by its first bytes, by what it is said to be, or as most are: servers go by the
/// ending.
fn kind(audio: &[u8], said: Option<&str>) -> (&'static str, &'static str) {
    match audio {
        [b'R', b'I', b'F', b'F', ..] => ("audio/wav", "wav"),
        [b'f', b'L', b'a', b'C', ..] => ("audio/flac", "flac"),
        [b'O', b'g', b'g', b'S', ..] => ("audio/ogg", "ogg"),
        [0x1a, 0x45, 0xdf, 0xa3, ..] => ("audio/webm", "webm"),
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => ("audio/mp4", "m4a"),
        _ => match said.unwrap_or_default() {
            said if said.contains("wav") => ("audio/wav", "wav"),
            said if said.contains("ogg") => ("audio/ogg", "ogg"),
            said if said.contains("webm") => ("audio/webm", "webm"),
            _ => ("audio/mpeg", "mp3"),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::planned;

    #[test]
    fn audio_is_a_file_in_a_form() {
        let inputs = json!({ "audio": "UklGRgAA", "language": "de", "initial_prompt": "bees" });
        let call = planned("@cf/openai/whisper-large-v3-turbo", &inputs).unwrap();
        let boundary = call.content_type.split_once("boundary=").unwrap().1.to_owned();
        let text = String::from_utf8(call.body.to_vec()).unwrap().replace(&boundary, "B");
        let part = |name: &str, value: &str| {
            format!("--B\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        let expected = [
            part("model", "@cf/openai/whisper-large-v3-turbo"),
            part("response_format", "json"),
            part("language", "de"),
            part("prompt", "bees"),
            "--B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"audio.wav\"\r\nContent-Type: \
             audio/wav\r\n\r\nRIFF\0\0\r\n--B--\r\n"
                .to_owned(),
        ];
        assert_eq!(text, expected.concat());
        let other = planned("@cf/openai/whisper", &json!({ "audio": [1, 2], "task": "translate" })).unwrap();
        assert_eq!(other.path, "/audio/translations");
    }
}
