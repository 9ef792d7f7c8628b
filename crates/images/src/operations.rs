//! What an application asks for, as read from the wire. Every option is known and honoured, or refused by name.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::color::{self, Color};
use crate::error::ImagesError;
use crate::geometry::{Fit, Gravity};

/// Steps of one request at most: bounds the work that a small request can ask for.
pub(crate) const MAX_STEPS: usize = 100;
/// The widest border.
const MAX_BORDER: f64 = 12_000.0;

/// One step; images are numbered, 0 is the canvas.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Step {
    /// Changes an image.
    Transform {
        /// Which.
        image: usize,
        /// How.
        transform: Box<Transform>,
    },
    /// Draws an image onto another one.
    Draw {
        /// What is drawn; it is gone then.
        image: usize,
        /// Where to.
        onto: usize,
        /// How.
        draw: Draw,
    },
}

/// What happens to one image, in the order of the fields.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Transform {
    pub trim: Option<Trim>,
    pub flip: Option<Flip>,
    /// Quarters of a turn, clockwise.
    pub turns: u8,
    pub width: Option<u32>,
    pub height: Option<u32>,
    pub fit: Fit,
    pub gravity: Gravity,
    pub border: Option<Border>,
    /// Radius in pixels.
    pub blur: Option<f32>,
    pub sharpen: Option<f32>,
    pub brightness: Option<f32>,
    pub contrast: Option<f32>,
    pub gamma: Option<f32>,
    pub saturation: Option<f32>,
    pub background: Option<Color>,
}

/// Pixels to cut off, or what to keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Trim {
    pub top: u32,
    pub right: u32,
    pub bottom: u32,
    pub left: u32,
    pub width: Option<u32>,
    pub height: Option<u32>,
}

/// Mirrors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Flip {
    Horizontal,
    Vertical,
    Both,
}

/// Pixels around an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Border {
    pub color: Color,
    pub top: u32,
    pub right: u32,
    pub bottom: u32,
    pub left: u32,
}

/// How an image is drawn onto another.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Draw {
    /// 0 to 1.
    pub opacity: f32,
    pub repeat: Repeat,
    pub composite: Composite,
    pub left: Option<i64>,
    pub top: Option<i64>,
    pub right: Option<i64>,
    pub bottom: Option<i64>,
}

/// Whether the drawn image is repeated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Repeat {
    pub x: bool,
    pub y: bool,
}

/// How pixels come together. <https://www.w3.org/TR/compositing-1/#porterduffcompositingoperators>
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Composite {
    #[default]
    Over,
    In,
    Atop,
    Out,
    Xor,
    Lighter,
}

/// The fields of an object, each taken once: what is left is unknown. `null` is as good as nothing.
struct Options {
    what: &'static str,
    left: Map<String, Value>,
}

impl Options {
    fn of(what: &'static str, value: &Value) -> Result<Self, ImagesError> {
        match value {
            Value::Object(map) => {
                let left = map.iter().filter(|(_, value)| !value.is_null());
                Ok(Self { what, left: left.map(|(name, value)| (name.clone(), value.clone())).collect() })
            }
            _ => Err(ImagesError::option(format!("{what} must be an object"))),
        }
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        self.left.remove(name)
    }

    /// A number from `least` to `most`.
    fn number(&mut self, name: &str, least: f64, most: f64) -> Result<Option<f64>, ImagesError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let number = value.as_f64().filter(|n| (least..=most).contains(n));
        number.map(Some).ok_or_else(|| {
            let range = format!("a number from {least} to {most}");
            ImagesError::option(format!("{}.{name} must be {range}, not {value}", self.what))
        })
    }

    fn small(&mut self, name: &str, least: f64, most: f64) -> Result<Option<f32>, ImagesError> {
        Ok(self.number(name, least, most)?.map(|n| n as f32))
    }

    /// A number of pixels, rounded.
    fn pixels(&mut self, name: &str, least: f64) -> Result<Option<u32>, ImagesError> {
        Ok(self.number(name, least, f64::from(u32::MAX))?.map(|n| n.round() as u32))
    }

    fn offset(&mut self, name: &str) -> Result<Option<i64>, ImagesError> {
        let most = f64::from(i32::MAX);
        Ok(self.number(name, -most, most)?.map(|n| n.round() as i64))
    }

    fn text(&mut self, name: &str) -> Result<Option<String>, ImagesError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => {
                Err(ImagesError::option(format!("{}.{name} must be a string, not {other}", self.what)))
            }
        }
    }

    fn color(&mut self, name: &str) -> Result<Option<Color>, ImagesError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        color(&format!("{}.{name}", self.what), &text).map(Some)
    }

    fn index(&mut self, name: &str, images: usize) -> Result<usize, ImagesError> {
        let index = self.take(name).and_then(|value| value.as_u64()?.try_into().ok());
        index
            .filter(|index| *index < images)
            .ok_or_else(|| ImagesError::request(format!("{name} is no image")))
    }

    /// Nothing may be left.
    fn end(self) -> Result<(), ImagesError> {
        match self.left.keys().next() {
            None => Ok(()),
            Some(name) => Err(ImagesError::option(format!("{}.{name} is not supported by Skep", self.what))),
        }
    }
}

/// A colour, or an error that says that `what` is none.
pub(crate) fn color(what: &str, text: &str) -> Result<Color, ImagesError> {
    color::parse(text).ok_or_else(|| ImagesError::option(format!("{what} is no colour: {text:?}")))
}

fn unknown<T>(what: &str, value: impl std::fmt::Display) -> Result<T, ImagesError> {
    Err(ImagesError::option(format!("{what} {value} is not supported by Skep")))
}

/// Reads the field `transforms` of a request with `images` images.
pub(crate) fn parse(text: &str, images: usize) -> Result<Vec<Step>, ImagesError> {
    let steps: Vec<Value> =
        serde_json::from_str(text).map_err(|_| ImagesError::request("transforms must be a JSON array"))?;
    if steps.len() > MAX_STEPS {
        return Err(ImagesError::option(format!("more than {MAX_STEPS} calls of transform() and draw()")));
    }
    let steps = steps.iter().map(|step| self::step(step, images)).collect::<Result<Vec<_>, _>>()?;
    check_order(&steps)?;
    Ok(steps)
}

/// What is drawn is gone: nothing may use it afterwards, and nothing is drawn onto itself.
fn check_order(steps: &[Step]) -> Result<(), ImagesError> {
    let mut drawn = Vec::new();
    for step in steps {
        let (first, second) = match step {
            Step::Transform { image, .. } => (*image, None),
            Step::Draw { image, onto, .. } => (*image, Some(*onto)),
        };
        let gone =
            drawn.contains(&first) || second.is_some_and(|onto| onto == first || drawn.contains(&onto));
        if gone || (second.is_some() && first == 0) {
            return Err(ImagesError::request("an image is used after it was drawn"));
        }
        drawn.extend(second.map(|_| first));
    }
    Ok(())
}

fn step(value: &Value, images: usize) -> Result<Step, ImagesError> {
    if value.get("drawImageIndex").is_some() {
        let mut options = Options::of("draw", value)?;
        let image = options.index("drawImageIndex", images)?;
        let onto = options.index("targetImageIndex", images)?;
        return Ok(Step::Draw { image, onto, draw: draw(options)? });
    }
    let mut options = Options::of("transform", value)?;
    let image = options.index("imageIndex", images)?;
    Ok(Step::Transform { image, transform: Box::new(transform(options)?) })
}

fn transform(mut options: Options) -> Result<Transform, ImagesError> {
    let transform = Transform {
        trim: options.take("trim").map(|value| trim(&value)).transpose()?,
        flip: match options.text("flip")?.as_deref() {
            None => None,
            Some("h") => Some(Flip::Horizontal),
            Some("v") => Some(Flip::Vertical),
            Some("hv" | "vh") => Some(Flip::Both),
            Some(other) => return unknown("transform.flip", other),
        },
        turns: match options.take("rotate") {
            None => 0,
            Some(value) => match value.as_f64() {
                Some(degrees) if degrees % 90.0 == 0.0 => (degrees / 90.0).rem_euclid(4.0) as u8,
                _ => return Err(ImagesError::option("transform.rotate must be 0, 90, 180 or 270")),
            },
        },
        width: options.pixels("width", 0.5)?,
        height: options.pixels("height", 0.5)?,
        fit: fit(options.text("fit")?.as_deref())?,
        gravity: options.take("gravity").map(|value| gravity(&value)).transpose()?.unwrap_or_default(),
        border: options.take("border").map(|value| border(&value)).transpose()?,
        blur: options.small("blur", 0.0, 250.0)?.filter(|blur| *blur > 0.0),
        sharpen: options.small("sharpen", 0.0, 10.0)?.filter(|sharpen| *sharpen > 0.0),
        // "`0` is ignored", says Cloudflare of these three.
        brightness: options.small("brightness", 0.0, 255.0)?.filter(|factor| *factor > 0.0),
        contrast: options.small("contrast", 0.0, 255.0)?.filter(|factor| *factor > 0.0),
        gamma: options.small("gamma", 0.0, 255.0)?.filter(|factor| *factor > 0.0),
        saturation: options.small("saturation", 0.0, 255.0)?,
        background: options.color("background")?,
    };
    options.end()?;
    Ok(transform)
}

fn fit(name: Option<&str>) -> Result<Fit, ImagesError> {
    Ok(match name {
        None | Some("scale-down") => Fit::ScaleDown,
        Some("contain") => Fit::Contain,
        Some("cover") => Fit::Cover,
        Some("crop") => Fit::Crop,
        Some("aspect-crop") => Fit::AspectCrop,
        Some("pad") => Fit::Pad,
        Some("squeeze") => Fit::Squeeze,
        Some(other) => return unknown("transform.fit", other),
    })
}

fn gravity(value: &Value) -> Result<Gravity, ImagesError> {
    let at = |x, y| Ok(Gravity { x, y, around: false });
    match value.as_str() {
        Some("center") => return at(0.5, 0.5),
        Some("left") => return at(0.0, 0.5),
        Some("right") => return at(1.0, 0.5),
        Some("top") => return at(0.5, 0.0),
        Some("bottom") => return at(0.5, 1.0),
        Some(other) => return unknown("transform.gravity", other),
        None => {}
    }
    let mut options = Options::of("transform.gravity", value)?;
    let gravity = Gravity {
        x: options.number("x", 0.0, 1.0)?.unwrap_or(0.5),
        y: options.number("y", 0.0, 1.0)?.unwrap_or(0.5),
        around: match options.text("mode")?.as_deref() {
            None | Some("remainder") => false,
            Some("box-center") => true,
            Some(other) => return unknown("transform.gravity.mode", other),
        },
    };
    options.end()?;
    Ok(gravity)
}

fn trim(value: &Value) -> Result<Trim, ImagesError> {
    if let Some(name) = value.as_str() {
        return unknown("transform.trim", name);
    }
    let mut options = Options::of("transform.trim", value)?;
    let trim = Trim {
        top: options.pixels("top", 0.0)?.unwrap_or(0),
        right: options.pixels("right", 0.0)?.unwrap_or(0),
        bottom: options.pixels("bottom", 0.0)?.unwrap_or(0),
        left: options.pixels("left", 0.0)?.unwrap_or(0),
        width: options.pixels("width", 0.5)?,
        height: options.pixels("height", 0.5)?,
    };
    options.end()?;
    Ok(trim)
}

fn border(value: &Value) -> Result<Border, ImagesError> {
    let mut options = Options::of("transform.border", value)?;
    let color = options.color("color")?.unwrap_or(Color::BLACK);
    let mut side = |name: &str| -> Result<Option<u32>, ImagesError> {
        Ok(options.number(name, 0.0, MAX_BORDER)?.map(|n| n.round() as u32))
    };
    let width = side("width")?.unwrap_or(0);
    let mut side = |name| Ok::<_, ImagesError>(side(name)?.unwrap_or(width));
    let border = Border {
        color,
        top: side("top")?,
        right: side("right")?,
        bottom: side("bottom")?,
        left: side("left")?,
    };
    options.end()?;
    Ok(border)
}

fn draw(mut options: Options) -> Result<Draw, ImagesError> {
    let draw = Draw {
        opacity: options.small("opacity", 0.0, 1.0)?.unwrap_or(1.0),
        repeat: match options.take("repeat") {
            None | Some(Value::Bool(false)) => Repeat::default(),
            Some(Value::Bool(true)) => Repeat { x: true, y: true },
            Some(Value::String(axis)) if axis == "x" => Repeat { x: true, y: false },
            Some(Value::String(axis)) if axis == "y" => Repeat { x: false, y: true },
            Some(other) => return unknown("draw.repeat", other),
        },
        composite: match options.text("composite")?.as_deref() {
            None | Some("over") => Composite::Over,
            Some("in") => Composite::In,
            Some("atop") => Composite::Atop,
            Some("out") => Composite::Out,
            Some("xor") => Composite::Xor,
            Some("lighter") => Composite::Lighter,
            Some(other) => return unknown("draw.composite", other),
        },
        left: options.offset("left")?,
        top: options.offset("top")?,
        right: options.offset("right")?,
        bottom: options.offset("bottom")?,
    };
    options.end()?;
    let both = |a: Option<i64>, b: Option<i64>| a.is_some() && b.is_some();
    if both(draw.left, draw.right) || both(draw.top, draw.bottom) {
        return Err(ImagesError::option("draw has both left and right, or both top and bottom"));
    }
    Ok(draw)
}

#[cfg(test)]
#[path = "operations_tests.rs"]
mod tests;
