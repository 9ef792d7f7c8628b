//! One image onto another.

use image::{DynamicImage, RgbaImage};

use crate::effects::blend;
use crate::error::ImagesError;
use crate::geometry::{Size, place};
use crate::operations::Draw;
use crate::picture::{Picture, eight_bits};

/// Draws the first frame of `top` onto all frames of `canvas`.
pub(crate) fn draw(canvas: &mut Picture, top: Picture, how: &Draw) -> Result<(), ImagesError> {
    let top = top.frames.into_iter().next().ok_or_else(ImagesError::internal)?;
    let top = top.image.into_rgba8();
    for frame in &mut canvas.frames {
        let image = std::mem::take(&mut frame.image);
        let was_opaque = !image.color().has_alpha();
        let mut image = eight_bits(image).into_rgba8();
        onto(&mut image, &top, how);
        let is_opaque = was_opaque && image.pixels().all(|pixel| pixel.0[3] == 255);
        let image = DynamicImage::ImageRgba8(image);
        frame.image = if is_opaque { DynamicImage::ImageRgb8(image.into_rgb8()) } else { image };
    }
    Ok(())
}

fn onto(canvas: &mut RgbaImage, top: &RgbaImage, how: &Draw) {
    let size = Size { width: canvas.width(), height: canvas.height() };
    let drawn = Size { width: top.width(), height: top.height() };
    let (left, top_edge) = place(size, drawn, how);
    let columns = span(size.width, drawn.width, left, how.repeat.x);
    let rows = span(size.height, drawn.height, top_edge, how.repeat.y);
    for y in rows {
        let from_y = i64::from(y).wrapping_sub(top_edge).rem_euclid(drawn.height.into()) as u32;
        for x in columns.clone() {
            let from_x = i64::from(x).wrapping_sub(left).rem_euclid(drawn.width.into()) as u32;
            let pixel = canvas.get_pixel_mut(x, y);
            pixel.0 = blend(top.get_pixel(from_x, from_y).0, pixel.0, how.opacity, how.composite);
        }
    }
}

/// Where something is drawn in one direction: the part of it that is on the canvas.
fn span(canvas: u32, drawn: u32, start: i64, repeat: bool) -> std::ops::Range<u32> {
    if repeat {
        return 0..canvas;
    }
    let within = |at: i64| at.clamp(0, i64::from(canvas)) as u32;
    within(start)..within(start.saturating_add(drawn.into()))
}
