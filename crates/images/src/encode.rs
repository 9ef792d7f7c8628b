//! Pixels into bytes.

use std::io::Write;

use image::codecs::gif::{GifEncoder, Repeat};
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::{Delay, DynamicImage};
use webp::{AnimEncoder, AnimFrame, Encoder, PixelLayout, WebPConfig};

use crate::color::Color;
use crate::error::ImagesError;
use crate::format::Output;
use crate::job::Plan;
use crate::picture::{Frame, Picture, eight_bits, flatten};

/// Bytes of an answer at most: it is kept in memory until the application has it.
pub(crate) const MAX_OUTPUT: usize = 64 << 20;
/// Pixels of width or height that WebP can hold.
const MAX_WEBP: u32 = 16_383;
/// How hard colours of a GIF are looked for: 1 (best) to 30.
const GIF_SPEED: i32 = 10;

/// A buffer that does not grow for ever.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_OUTPUT {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn failed(error: image::ImageError) -> ImagesError {
    match error {
        image::ImageError::IoError(error) if error.kind() == std::io::ErrorKind::FileTooLarge => {
            ImagesError::too_much()
        }
        error => ImagesError::encoding(error),
    }
}

/// Writes a picture as the plan says.
pub(crate) fn encode(mut picture: Picture, plan: &Plan) -> Result<Vec<u8>, ImagesError> {
    let background = match plan.background {
        None if !plan.format.has_alpha() => Some(Color::WHITE),
        background => background,
    };
    for frame in &mut picture.frames {
        frame.image = eight_bits(std::mem::take(&mut frame.image));
        if let Some(color) = background {
            frame.image = flatten(std::mem::take(&mut frame.image), color);
        }
        if !plan.format.has_alpha() {
            frame.image = flatten(std::mem::take(&mut frame.image), Color::WHITE);
        }
    }
    if picture.frames.len() > 1 {
        match plan.format {
            Output::Gif => return gif(picture),
            Output::WebP => return animated_webp(&picture, plan.quality),
            _ => {}
        }
    }
    let loops = picture.loops;
    let first = picture.frames.into_iter().next().ok_or_else(ImagesError::internal)?;
    let image = first.image;
    let mut bytes = Bounded(Vec::new());
    match plan.format {
        Output::Png => image.write_with_encoder(PngEncoder::new(&mut bytes)).map_err(failed)?,
        Output::Jpeg => {
            let encoder = JpegEncoder::new_with_quality(&mut bytes, plan.quality);
            image.write_with_encoder(encoder).map_err(failed)?;
        }
        Output::Gif => {
            return gif(Picture { frames: vec![Frame { image, delay_ms: first.delay_ms }], loops });
        }
        Output::WebP => return webp(image, plan.quality),
        Output::Rgb => return raw(image.into_rgb8().into_raw()),
        Output::Rgba => return raw(image.into_rgba8().into_raw()),
    }
    Ok(bytes.0)
}

fn raw(pixels: Vec<u8>) -> Result<Vec<u8>, ImagesError> {
    match pixels.len() <= MAX_OUTPUT {
        true => Ok(pixels),
        false => Err(ImagesError::too_much()),
    }
}

fn gif(picture: Picture) -> Result<Vec<u8>, ImagesError> {
    let mut bytes = Bounded(Vec::new());
    let mut encoder = GifEncoder::new_with_speed(&mut bytes, GIF_SPEED);
    if picture.frames.len() > 1 {
        let repeat = match u16::try_from(picture.loops) {
            Ok(0) | Err(_) => Repeat::Infinite,
            Ok(count) => Repeat::Finite(count),
        };
        encoder.set_repeat(repeat).map_err(failed)?;
    }
    for frame in picture.frames {
        let delay = Delay::from_numer_denom_ms(frame.delay_ms, 1);
        let frame = image::Frame::from_parts(frame.image.into_rgba8(), 0, 0, delay);
        encoder.encode_frame(frame).map_err(failed)?;
    }
    drop(encoder);
    Ok(bytes.0)
}

/// A layout that WebP takes, without a copy where it has one.
fn layout(image: DynamicImage) -> (Vec<u8>, PixelLayout, u32, u32) {
    let (width, height) = (image.width(), image.height());
    match image.color().has_alpha() {
        true => (image.into_rgba8().into_raw(), PixelLayout::Rgba, width, height),
        false => (image.into_rgb8().into_raw(), PixelLayout::Rgb, width, height),
    }
}

fn check_webp(width: u32, height: u32) -> Result<(), ImagesError> {
    match width <= MAX_WEBP && height <= MAX_WEBP {
        true => Ok(()),
        false => Err(ImagesError::too_large("Output format rejected")),
    }
}

fn webp(image: DynamicImage, quality: u8) -> Result<Vec<u8>, ImagesError> {
    let (pixels, layout, width, height) = layout(image);
    check_webp(width, height)?;
    let encoder = Encoder::new(&pixels, layout, width, height);
    let bytes = encoder.encode_simple(false, quality.into());
    let bytes = bytes.map_err(|error| ImagesError::encoding(format!("{error:?}")))?;
    raw(bytes.to_vec())
}

fn animated_webp(picture: &Picture, quality: u8) -> Result<Vec<u8>, ImagesError> {
    let mut config = WebPConfig::new().map_err(|()| ImagesError::internal())?;
    config.quality = quality.into();
    let frames: Vec<_> = picture.frames.iter().map(|frame| frame.image.to_rgba8()).collect();
    let Some(first) = frames.first() else { return Err(ImagesError::internal()) };
    let (width, height) = first.dimensions();
    check_webp(width, height)?;
    let mut encoder = AnimEncoder::new(width, height, &config);
    encoder.set_loop_count(picture.loops.try_into().unwrap_or(0));
    let mut shown_ms = 0_i32;
    for (frame, image) in picture.frames.iter().zip(&frames) {
        encoder.add_frame(AnimFrame::from_rgba(image, width, height, shown_ms));
        shown_ms = shown_ms.saturating_add(frame.delay_ms.try_into().unwrap_or(i32::MAX));
    }
    let bytes = encoder.try_encode().map_err(|error| ImagesError::encoding(format!("{error:?}")))?;
    raw(bytes.to_vec())
}
