//! Colours as CSS writes them.

use serde::{Deserialize, Serialize};

use crate::names::NAMES;

/// Red, green, blue and opacity, each 0 to 255.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Color(pub [u8; 4]);

impl Color {
    pub const WHITE: Self = Self([255; 4]);
    pub const CLEAR: Self = Self([0; 4]);
    pub const BLACK: Self = Self([0, 0, 0, 255]);
}

/// Reads `#rgb`, `#rgba`, `#rrggbb`, `#rrggbbaa`, `rgb(…)` and `rgba(…)` in the old and the new syntax, `hsl(…)` and
/// `hsla(…)`, and names. <https://www.w3.org/TR/css-color-4/>
pub(crate) fn parse(text: &str) -> Option<Color> {
    let text = text.trim().to_ascii_lowercase();
    if let Some(digits) = text.strip_prefix('#') {
        return hex(digits);
    }
    if let Some((name, rest)) = text.split_once('(') {
        let numbers = rest.strip_suffix(')')?;
        return match name.trim_end() {
            "rgb" | "rgba" => rgb(numbers),
            "hsl" | "hsla" => hsl(numbers),
            _ => None,
        };
    }
    if text == "transparent" {
        return Some(Color::CLEAR);
    }
    let found = NAMES.binary_search_by_key(&text.as_str(), |(name, _)| name).ok()?;
    let [_, red, green, blue] = NAMES[found].1.to_be_bytes();
    Some(Color([red, green, blue, 255]))
}

fn hex(digits: &str) -> Option<Color> {
    if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let nibbles: Vec<u8> = digits.chars().filter_map(|c| c.to_digit(16)?.try_into().ok()).collect();
    match *nibbles.as_slice() {
        [r, g, b] => Some(Color([r * 17, g * 17, b * 17, 255])),
        [r, g, b, a] => Some(Color([r * 17, g * 17, b * 17, a * 17])),
        [r, s, g, h, b, c] => Some(Color([r * 16 + s, g * 16 + h, b * 16 + c, 255])),
        [r, s, g, h, b, c, a, d] => Some(Color([r * 16 + s, g * 16 + h, b * 16 + c, a * 16 + d])),
        _ => None,
    }
}

/// Three values and maybe the opacity, from 0 to 1.
fn values(text: &str) -> Option<([&str; 3], f64)> {
    let mut parts = text.split([',', '/', ' ', '\t', '\n']).filter(|part| !part.is_empty());
    let three = [parts.next()?, parts.next()?, parts.next()?];
    let alpha = match parts.next() {
        None => 1.0,
        Some(alpha) => fraction(alpha).or_else(|| alpha.parse().ok()).filter(|a: &f64| a.is_finite())?,
    };
    parts.next().is_none().then_some((three, alpha.clamp(0.0, 1.0)))
}

fn fraction(percent: &str) -> Option<f64> {
    let number: f64 = percent.strip_suffix('%')?.parse().ok()?;
    number.is_finite().then_some(number / 100.0)
}

fn byte(value: f64) -> u8 {
    value.round().clamp(0.0, 255.0) as u8
}

fn rgb(text: &str) -> Option<Color> {
    let (three, alpha) = values(text)?;
    let mut color = [0; 4];
    for (channel, value) in color.iter_mut().zip(three) {
        let number = fraction(value).map(|f| f * 255.0).or_else(|| value.parse().ok())?;
        *channel = byte(Some(number).filter(|n: &f64| n.is_finite())?);
    }
    color[3] = byte(alpha * 255.0);
    Some(Color(color))
}

fn hsl(text: &str) -> Option<Color> {
    let ([hue, saturation, lightness], alpha) = values(text)?;
    let hue: f64 = hue.strip_suffix("deg").unwrap_or(hue).parse().ok().filter(|hue: &f64| hue.is_finite())?;
    let saturation = fraction(saturation)?.clamp(0.0, 1.0);
    let lightness = fraction(lightness)?.clamp(0.0, 1.0);
    let chroma = saturation * lightness.min(1.0 - lightness);
    let channel = |n: f64| {
        let k = (n + hue.rem_euclid(360.0) / 30.0).rem_euclid(12.0);
        byte(255.0 * (lightness - chroma * (k - 3.0).min(9.0 - k).clamp(-1.0, 1.0)))
    };
    Some(Color([channel(0.0), channel(8.0), channel(4.0), byte(alpha * 255.0)]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn css_colours_are_read() {
        for (text, color) in [
            ("#f00", [255, 0, 0, 255]),
            ("#F008", [255, 0, 0, 136]),
            ("#01020304", [1, 2, 3, 4]),
            ("#ffffff", [255; 4]),
            ("rgb(240,40,145)", [240, 40, 145, 255]),
            ("rgba(240, 40, 145, 0)", [240, 40, 145, 0]),
            ("rgb(255 255 0 / 50%)", [255, 255, 0, 128]),
            ("rgb(100% 0% 300)", [255, 0, 255, 255]),
            ("hsl(120, 100%, 50%)", [0, 255, 0, 255]),
            ("hsla(-120deg 100% 50% / .5)", [0, 0, 255, 128]),
            ("Red", [255, 0, 0, 255]),
            ("rebeccapurple", [102, 51, 153, 255]),
            ("transparent", [0; 4]),
        ] {
            assert_eq!(parse(text), Some(Color(color)), "{text}");
        }
    }

    #[test]
    fn what_is_no_colour_is_none() {
        for text in [
            "",
            "#",
            "#12",
            "#ggg",
            "rgb",
            "rgb(1,2)",
            "rgb(1,2,3,4,5)",
            "rgb(NaN,1,1)",
            "reddish",
            "hsl(1,2,3)",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn names_are_in_order() {
        assert!(NAMES.is_sorted_by_key(|(name, _)| name));
    }

    proptest! {
        #[test]
        fn every_colour_is_read_as_it_is_written(color in any::<[u8; 4]>()) {
            let [r, g, b, a] = color;
            prop_assert_eq!(parse(&format!("#{r:02x}{g:02X}{b:02x}{a:02x}")), Some(Color(color)));
            prop_assert_eq!(parse(&format!("rgb({r} {g},{b})")), Some(Color([r, g, b, 255])));
        }

        #[test]
        fn no_text_is_too_much(text in "(#|rgb\\(|hsl\\()?\\PC{0,20}\\)?") {
            let _ = parse(&text);
        }
    }
}
