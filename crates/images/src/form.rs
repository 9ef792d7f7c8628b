//! The form that the engine's part of the binding sends.

use bytes::Bytes;
use futures_util::stream;

use crate::error::ImagesError;
use crate::format::Output;
use crate::job::{Plan, Task};
use crate::operations;

/// Bytes of one image. <https://developers.cloudflare.com/images/optimization/binding/>
pub(crate) const MAX_IMAGE: usize = 20_000_000;
/// Bytes of all images of one request and what is around them.
pub(crate) const MAX_FORM: usize = 48_000_000;
/// Images of one request.
const MAX_IMAGES: usize = 32;
/// Cloudflare's, for what is not said. <https://developers.cloudflare.com/images/optimization/features/#quality--q>
const QUALITY: u8 = 85;

/// A request, understood.
#[derive(Debug)]
pub(crate) struct Form {
    pub images: Vec<Bytes>,
    pub task: Task,
}

/// Reads the form of a call of `path`.
pub(crate) async fn read(path: &str, content_type: &str, body: Bytes) -> Result<Form, ImagesError> {
    let broken = |error: multer::Error| ImagesError::request(error);
    let boundary = multer::parse_boundary(content_type).map_err(broken)?;
    let whole = stream::once(async { Ok::<_, std::io::Error>(body) });
    let mut form = multer::Multipart::new(whole, boundary);
    let mut images = Vec::new();
    let mut fields = Vec::new();
    while let Some(field) = form.next_field().await.map_err(broken)? {
        let name = field.name().unwrap_or_default().to_owned();
        match name.as_str() {
            "image" | "draw_image" => {
                // The canvas is number 0, what is drawn follows.
                if (name == "image") != images.is_empty() || images.len() >= MAX_IMAGES {
                    return Err(ImagesError::request(format!(
                        "more than {MAX_IMAGES} images, or none to draw on"
                    )));
                }
                images.push(field.bytes().await.map_err(broken)?);
            }
            "text_input" | "draw_text" => {
                return Err(ImagesError::option("text() is not supported by Skep: it has no fonts"));
            }
            _ => fields.push((name, field.text().await.map_err(broken)?)),
        }
    }
    if images.is_empty() {
        return Err(ImagesError::request("there is no image"));
    }
    if images.iter().any(|image| image.len() > MAX_IMAGE) {
        return Err(ImagesError::file_too_large());
    }
    let task = match path {
        "/info" => Task::Info,
        "/transform" => Task::Transform(plan(&fields, images.len())?),
        other => return Err(ImagesError::request(format!("{other} is not known"))),
    };
    Ok(Form { images, task })
}

fn plan(fields: &[(String, String)], images: usize) -> Result<Plan, ImagesError> {
    let mut plan =
        Plan { steps: Vec::new(), format: Output::Jpeg, quality: QUALITY, background: None, animated: true };
    let mut format = None;
    for (name, value) in fields {
        match name.as_str() {
            "transforms" => plan.steps = operations::parse(value, images)?,
            "output_format" => format = Some(Output::parse(value)?),
            "output_quality" => plan.quality = quality(value)?,
            "background" => plan.background = Some(operations::color("output.background", value)?),
            "anim" => match value.as_str() {
                "true" => plan.animated = true,
                "false" => plan.animated = false,
                other => return Err(ImagesError::option(format!("output.anim {other:?}"))),
            },
            other => return Err(ImagesError::option(format!("{other} is not supported by Skep"))),
        }
    }
    plan.format = format.ok_or_else(|| ImagesError::option("output.format is missing"))?;
    Ok(plan)
}

/// A number, or a level as Cloudflare names them; what the levels are worth is Miniflare's guess.
fn quality(text: &str) -> Result<u8, ImagesError> {
    match text {
        "high" => return Ok(90),
        "medium-high" => return Ok(70),
        "medium-low" => return Ok(50),
        "low" => return Ok(35),
        _ => {}
    }
    let number = text.parse::<f64>().ok().filter(|quality| (1.0..=100.0).contains(quality));
    number.map(|quality| quality.round() as u8).ok_or_else(|| {
        ImagesError::option(format!(
            "output.quality must be a number from 1 to 100, or a level, not {text:?}"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(fields: &[(&str, &str)]) -> Bytes {
        let mut body = String::new();
        for (name, value) in fields {
            body += "--b\r\ncontent-disposition: form-data; ";
            body += &format!("name=\"{name}\"\r\n\r\n{value}\r\n");
        }
        (body + "--b--\r\n").into()
    }

    async fn form(path: &str, fields: &[(&str, &str)]) -> Result<Form, ImagesError> {
        read(path, "multipart/form-data; boundary=b", body(fields)).await
    }

    #[tokio::test]
    async fn a_form_is_understood() {
        let fields = [
            ("image", "abc"),
            ("draw_image", "de"),
            ("transforms", "[]"),
            ("output_format", "image/webp"),
            ("output_quality", "low"),
            ("background", "red"),
            ("anim", "false"),
        ];
        let Form { images, task } = form("/transform", &fields).await.unwrap();
        assert_eq!(images, ["abc", "de"]);
        let Task::Transform(plan) = task else { panic!("{task:?}") };
        assert_eq!((plan.format, plan.quality, plan.animated), (Output::WebP, 35, false));
        assert_eq!(form("/info", &[("image", "abc")]).await.unwrap().task, Task::Info);
    }

    #[tokio::test]
    async fn what_is_missing_or_unknown_is_refused() {
        let image = ("image", "a");
        let webp = ("output_format", "image/webp");
        for (fields, why) in [
            (&[][..], "ERROR 9432: Bad request: there is no image"),
            (&[image], "output.format is missing"),
            (&[image, ("output_format", "image/bmp")], "output.format \"image/bmp\""),
            (&[image, ("output_format", "image/avif")], "ERROR 9520: AVIF output is not supported by Skep"),
            (&[image, webp, ("output_quality", "101")], "must be a number from 1 to 100"),
            (&[image, webp, ("anim", "1")], "output.anim"),
            (&[image, webp, ("segment", "x")], "segment is not supported"),
            (&[("text_input", "{}"), webp], "text() is not supported"),
            (&[("draw_image", "a"), image, webp], "none to draw on"),
        ] {
            let error = form("/transform", fields).await.unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        assert_eq!(form("/", &[image]).await.unwrap_err().code, 9432);
        assert_eq!(read("/info", "text/plain", Bytes::new()).await.unwrap_err().code, 9432);
    }

    #[tokio::test]
    async fn an_image_has_a_largest_size() {
        let large = "x".repeat(MAX_IMAGE + 1);
        let error = form("/info", &[("image", large.as_str())]).await.unwrap_err();
        assert_eq!((error.code, error.status), (9402, 413));
    }
}
