//! Which part of an image becomes how large: pure.
//! <https://developers.cloudflare.com/images/optimization/features/#fit>

use serde::{Deserialize, Serialize};

use crate::error::ImagesError;
use crate::operations::{Draw, Trim};

/// Pixels of width or height at most, of what comes and of what is made.
/// <https://developers.cloudflare.com/images/get-started/limits/>
pub(crate) const MAX_SIDE: u32 = 12_000;
/// Pixels at most.
pub(crate) const MAX_AREA: u64 = 100_000_000;

/// How an image is fitted into the asked width and height.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Fit {
    /// All of it, and no larger than it was.
    #[default]
    ScaleDown,
    /// All of it.
    Contain,
    /// Fills the size, what sticks out is cut off.
    Cover,
    /// The same, but no larger than it was.
    Crop,
    /// As `Crop`, and what is too small gets the asked proportions.
    AspectCrop,
    /// As `Contain`, the rest is background.
    Pad,
    /// Exactly the size, distorted.
    Squeeze,
}

/// The point of an image that stays when the rest is cut off: 0 is left or top, 1 is right or bottom.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Gravity {
    pub x: f64,
    pub y: f64,
    /// Whether the point is the middle of what stays, as far as possible (`box-center`); otherwise what is cut off is
    /// divided in this ratio (`remainder`).
    pub around: bool,
}

impl Default for Gravity {
    fn default() -> Self {
        Self { x: 0.5, y: 0.5, around: false }
    }
}

/// Width and height in pixels, each at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Size {
    pub width: u32,
    pub height: u32,
}

impl Size {
    /// The number of pixels.
    pub fn area(self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }

    /// Refuses what is too large to be made.
    pub fn check_output(self) -> Result<(), ImagesError> {
        let Self { width, height } = self;
        if width > MAX_SIDE || height > MAX_SIDE {
            let text = "but maximum dimension allowed is";
            return Err(ImagesError::too_large(format!(
                "The image enlarged too much: {width}\u{d7}{height}, {text} {MAX_SIDE}"
            )));
        }
        self.check_area()
    }

    /// Refuses what is too large to be read.
    pub fn check_input(self) -> Result<(), ImagesError> {
        let Self { width, height } = self;
        if width == 0 || height == 0 {
            return Err(ImagesError::too_large("The image has width or height of size 0"));
        }
        if width > MAX_SIDE || height > MAX_SIDE {
            return Err(ImagesError::too_large(format!(
                "The image is too large: {width}\u{d7}{height}, but maximum dimension allowed is {MAX_SIDE}"
            )));
        }
        self.check_area()
    }

    fn check_area(self) -> Result<(), ImagesError> {
        match self.area() <= MAX_AREA {
            true => Ok(()),
            false => Err(ImagesError::too_large(format!(
                "The image exceeds the maximum image area of {} megapixels",
                MAX_AREA / 1_000_000
            ))),
        }
    }
}

/// A part of an image, in its pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Area {
    pub left: f64,
    pub top: f64,
    pub width: f64,
    pub height: f64,
}

/// What becomes of an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Fitting {
    /// This part of it
    pub part: Area,
    /// is made so large
    pub size: Size,
    /// and put in the middle of this, if that is another size.
    pub canvas: Size,
}

fn side(length: f64) -> u32 {
    // A float that is too large becomes the largest number, which is refused afterwards.
    (length.round() as u32).max(1)
}

/// Fits an image of `source` into `width` and `height`, of which at least one is given.
pub(crate) fn fitting(
    source: Size,
    width: Option<u32>,
    height: Option<u32>,
    fit: Fit,
    gravity: Gravity,
) -> Fitting {
    let (own_width, own_height) = (f64::from(source.width), f64::from(source.height));
    let whole = Area { left: 0.0, top: 0.0, width: own_width, height: own_height };
    let (x_scale, y_scale) =
        (width.map(|w| f64::from(w) / own_width), height.map(|h| f64::from(h) / own_height));
    let scaled = |scale: f64| {
        let side = |asked: Option<u32>, own: f64, ratio: Option<f64>| match (asked, ratio) {
            // Not off by one because of a division.
            (Some(asked), Some(ratio)) if ratio == scale => asked,
            _ => side(own * scale),
        };
        let size = Size { width: side(width, own_width, x_scale), height: side(height, own_height, y_scale) };
        Fitting { part: whole, size, canvas: size }
    };
    let (Some(x), Some(y), Some(width), Some(height)) = (x_scale, y_scale, width, height) else {
        let scale = x_scale.or(y_scale).unwrap_or(1.0);
        return scaled(match fit {
            Fit::ScaleDown | Fit::Crop | Fit::AspectCrop => scale.min(1.0),
            Fit::Contain | Fit::Cover | Fit::Pad | Fit::Squeeze => scale,
        });
    };
    let asked = Size { width, height };
    match fit {
        Fit::ScaleDown => scaled(x.min(y).min(1.0)),
        Fit::Contain => scaled(x.min(y)),
        Fit::Pad => Fitting { canvas: asked, ..scaled(x.min(y)) },
        Fit::Squeeze => Fitting { part: whole, size: asked, canvas: asked },
        Fit::Crop if x.max(y) > 1.0 => {
            let size = Size { width: width.min(source.width), height: height.min(source.height) };
            cut(source, f64::from(size.width), f64::from(size.height), size, gravity)
        }
        Fit::AspectCrop if x.max(y) > 1.0 => {
            // The largest part with these proportions, at its own size.
            let scale = x.max(y);
            let (part_width, part_height) = (f64::from(width) / scale, f64::from(height) / scale);
            cut(
                source,
                part_width,
                part_height,
                Size { width: side(part_width), height: side(part_height) },
                gravity,
            )
        }
        Fit::Cover | Fit::Crop | Fit::AspectCrop => {
            let scale = x.max(y);
            cut(source, f64::from(width) / scale, f64::from(height) / scale, asked, gravity)
        }
    }
}

/// A part of `width` and `height` that becomes `size`.
fn cut(source: Size, width: f64, height: f64, size: Size, gravity: Gravity) -> Fitting {
    let start = |own: u32, part: f64, point: f64| {
        let room = (f64::from(own) - part).max(0.0);
        match gravity.around {
            true => (point * f64::from(own) - part / 2.0).clamp(0.0, room),
            false => point * room,
        }
    };
    let (width, height) = (width.min(source.width.into()), height.min(source.height.into()));
    let (left, top) = (start(source.width, width, gravity.x), start(source.height, height, gravity.y));
    Fitting { part: Area { left, top, width, height }, size, canvas: size }
}

/// What is left of an image, as left, top and size. Something always is.
pub(crate) fn trimmed(source: Size, trim: &Trim) -> (u32, u32, Size) {
    let side = |own: u32, before: u32, after: u32, length: Option<u32>| {
        let start = before.min(own - 1);
        let left = own - start;
        // A length of its own counts instead of what is cut off at the end.
        let length = length.unwrap_or(left.saturating_sub(after));
        (start, length.clamp(1, left))
    };
    let (left, width) = side(source.width, trim.left, trim.right, trim.width);
    let (top, height) = side(source.height, trim.top, trim.bottom, trim.height);
    (left, top, Size { width, height })
}

/// Where the left top corner of what is drawn goes: in the middle where nothing is said.
pub(crate) fn place(canvas: Size, drawn: Size, draw: &Draw) -> (i64, i64) {
    let side = |own: u32, drawn: u32, before: Option<i64>, after: Option<i64>| {
        let room = i64::from(own) - i64::from(drawn);
        before.or(after.map(|after| room - after)).unwrap_or(room.div_euclid(2))
    };
    let left = side(canvas.width, drawn.width, draw.left, draw.right);
    (left, side(canvas.height, drawn.height, draw.top, draw.bottom))
}

#[cfg(test)]
#[path = "geometry_tests.rs"]
mod tests;
