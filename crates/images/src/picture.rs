//! Images as pixels, and what is done to each.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::{DynamicImage, ImageBuffer, imageops};

use crate::color::Color;
use crate::effects;
use crate::error::ImagesError;
use crate::geometry::{Fitting, Size, fitting, trimmed};
use crate::operations::{Border, Flip, Transform};

/// An image or an animation: at least one frame, all of one size.
pub(crate) struct Picture {
    pub frames: Vec<Frame>,
    /// How often an animation is shown; 0 is for ever.
    pub loops: u32,
}

/// One image of an animation.
pub(crate) struct Frame {
    pub image: DynamicImage,
    pub delay_ms: u32,
}

pub(crate) fn size_of(image: &DynamicImage) -> Size {
    Size { width: image.width(), height: image.height() }
}

impl Picture {
    /// One image.
    pub fn still(image: DynamicImage) -> Self {
        Self { frames: vec![Frame { image, delay_ms: 0 }], loops: 0 }
    }

    /// Does the same to all frames.
    pub fn transform(&mut self, transform: &Transform) -> Result<(), ImagesError> {
        for frame in &mut self.frames {
            let image = std::mem::take(&mut frame.image);
            frame.image = self::transform(image, transform)?;
        }
        Ok(())
    }
}

/// Channels of 8 bits.
pub(crate) fn eight_bits(image: DynamicImage) -> DynamicImage {
    match image {
        DynamicImage::ImageLuma16(_) => DynamicImage::ImageLuma8(image.into_luma8()),
        DynamicImage::ImageLumaA16(_) => DynamicImage::ImageLumaA8(image.into_luma_alpha8()),
        DynamicImage::ImageRgb16(_) | DynamicImage::ImageRgb32F(_) => {
            DynamicImage::ImageRgb8(image.into_rgb8())
        }
        DynamicImage::ImageRgba16(_) | DynamicImage::ImageRgba32F(_) => {
            DynamicImage::ImageRgba8(image.into_rgba8())
        }
        other => other,
    }
}

fn transform(image: DynamicImage, how: &Transform) -> Result<DynamicImage, ImagesError> {
    let mut image = eight_bits(image);
    if let Some(trim) = &how.trim {
        let (left, top, Size { width, height }) = trimmed(size_of(&image), trim);
        image = image.crop_imm(left, top, width, height);
    }
    match how.flip {
        None => {}
        Some(Flip::Horizontal) => imageops::flip_horizontal_in_place(&mut image),
        Some(Flip::Vertical) => imageops::flip_vertical_in_place(&mut image),
        Some(Flip::Both) => imageops::rotate180_in_place(&mut image),
    }
    match how.turns {
        1 => image = image.rotate90(),
        2 => imageops::rotate180_in_place(&mut image),
        3 => image = image.rotate270(),
        _ => {}
    }
    if how.width.is_some() || how.height.is_some() {
        let fitted = fitting(size_of(&image), how.width, how.height, how.fit, how.gravity);
        fitted.canvas.check_output()?;
        image = resize(image, &fitted)?;
        image = pad(image, fitted.canvas, how.background.unwrap_or(Color::WHITE));
    }
    if let Some(border) = &how.border {
        image = frame(image, border)?;
    }
    image = effects::apply(image, how);
    Ok(match how.background {
        Some(color) => flatten(image, color),
        None => image,
    })
}

/// Makes a part of an image as large as it is to be.
fn resize(image: DynamicImage, fitted: &Fitting) -> Result<DynamicImage, ImagesError> {
    let Size { width, height } = fitted.size;
    let part = &fitted.part;
    if size_of(&image) == fitted.size && part.left == 0.0 && part.top == 0.0 {
        return Ok(image);
    }
    let color = image.color();
    // One layout only: the code for the others is large.
    let image = image.into_rgba8();
    let failed = |error: &dyn std::fmt::Display| ImagesError::encoding(error);
    let source = ImageRef::new(image.width(), image.height(), image.as_raw(), PixelType::U8x4);
    let source = source.map_err(|e| failed(&e))?;
    let mut made = Image::new(width, height, PixelType::U8x4);
    let options = ResizeOptions::new()
        .crop(part.left, part.top, part.width, part.height)
        .resize_alg(ResizeAlg::Convolution(FilterType::Lanczos3))
        .use_alpha(color.has_alpha());
    Resizer::new().resize(&source, &mut made, &options).map_err(|e| failed(&e))?;
    let made = ImageBuffer::from_raw(width, height, made.into_vec()).ok_or_else(ImagesError::internal)?;
    let made = DynamicImage::ImageRgba8(made);
    Ok(match (color.has_alpha(), color.has_color()) {
        (true, _) => made,
        (false, true) => DynamicImage::ImageRgb8(made.into_rgb8()),
        (false, false) => DynamicImage::ImageLuma8(made.into_luma8()),
    })
}

/// Puts an image in the middle of a canvas of one colour, if that is larger.
fn pad(image: DynamicImage, canvas: Size, color: Color) -> DynamicImage {
    if size_of(&image) == canvas {
        return image;
    }
    let left = (canvas.width - image.width().min(canvas.width)) / 2;
    let top = (canvas.height - image.height().min(canvas.height)) / 2;
    put(&image, canvas, color, left, top)
}

/// Puts pixels of one colour around an image.
fn frame(image: DynamicImage, border: &Border) -> Result<DynamicImage, ImagesError> {
    let Border { color, top, right, bottom, left } = *border;
    let canvas = Size { width: image.width() + left + right, height: image.height() + top + bottom };
    canvas.check_output()?;
    Ok(put(&image, canvas, color, left, top))
}

fn put(image: &DynamicImage, canvas: Size, color: Color, left: u32, top: u32) -> DynamicImage {
    let has_alpha = image.color().has_alpha() || color.0[3] != 255;
    let [r, g, b, _] = color.0;
    if has_alpha {
        let mut whole = ImageBuffer::from_pixel(canvas.width, canvas.height, image::Rgba(color.0));
        imageops::replace(&mut whole, &image.to_rgba8(), left.into(), top.into());
        return DynamicImage::ImageRgba8(whole);
    }
    let mut whole = ImageBuffer::from_pixel(canvas.width, canvas.height, image::Rgb([r, g, b]));
    imageops::replace(&mut whole, &image.to_rgb8(), left.into(), top.into());
    DynamicImage::ImageRgb8(whole)
}

/// Puts a colour under an image.
pub(crate) fn flatten(image: DynamicImage, color: Color) -> DynamicImage {
    if !image.color().has_alpha() {
        return image;
    }
    let mut pixels = image.into_rgba8();
    for pixel in pixels.pixels_mut() {
        pixel.0 = effects::over(pixel.0, color.0);
    }
    match color.0[3] {
        255 => DynamicImage::ImageRgb8(DynamicImage::ImageRgba8(pixels).into_rgb8()),
        _ => DynamicImage::ImageRgba8(pixels),
    }
}
