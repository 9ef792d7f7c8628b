//! Pictures of what a text says.

use serde_json::{Map, Value as Json};

use super::{Answer, Call};
use crate::error::AiError;
use crate::fields::Fields;
use crate::models::Target;
use crate::names::{pictures_are_jpeg, pictures_in_json};

pub(super) fn call(target: &Target, fields: &Fields<'_>) -> Result<Call, AiError> {
    let prompt = fields.text("prompt")?;
    let prompt = prompt.ok_or_else(|| AiError::bad_input("required properties at '/' are 'prompt'"))?;
    let given = ["image", "image_b64", "mask"].into_iter().find(|name| fields.has(name));
    if let Some(name) = given {
        return Err(AiError::bad_input(format!(
            "'{name}' is not supported: Skep asks for pictures of a text only"
        )));
    }
    let mut body = Map::new();
    body.insert("model".into(), target.upstream.clone().into());
    body.insert("prompt".into(), prompt.into());
    body.insert("n".into(), 1.into());
    let side = |name| Ok::<_, AiError>(fields.json(name)?.and_then(|side| side.as_u64()));
    if let (Some(width), Some(height)) = (side("width")?, side("height")?) {
        body.insert("size".into(), format!("{width}x{height}").into());
    }
    // OpenAI's newest models give nothing else, and refuse to be asked.
    if !target.upstream.starts_with("gpt-image") {
        body.insert("response_format".into(), Json::from("b64_json"));
    }
    let answer =
        Answer::Picture { in_json: pictures_in_json(&target.name), jpeg: pictures_are_jpeg(&target.name) };
    Ok(Call::json("/images/generations", &body.into(), answer))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{body, planned};

    const MODEL: &str = "@cf/stabilityai/stable-diffusion-xl-base-1.0";

    #[test]
    fn a_picture_is_asked_for_as_base64() {
        let sent = body(MODEL, &json!({ "prompt": "a bee", "width": 512, "height": 256, "num_steps": 4 }));
        let expected = json!({ "model": MODEL, "prompt": "a bee", "n": 1, "size": "512x256", "response_format": "b64_json" });
        assert_eq!(sent, expected);
        assert!(planned(MODEL, &json!({ "prompt": "a bee", "image": [1] })).is_err());
    }
}
