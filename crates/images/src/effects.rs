//! What is done to each pixel.

use image::DynamicImage;

use crate::operations::{Composite, Transform};

/// The blur that sharpening compares with, as a standard deviation.
const SHARPEN_SIGMA: f32 = 1.0;

/// Blurs, sharpens and changes colours, in this order.
pub(crate) fn apply(mut image: DynamicImage, how: &Transform) -> DynamicImage {
    if let Some(radius) = how.blur {
        image = image.fast_blur(radius / 2.0);
    }
    if let Some(strength) = how.sharpen {
        image = sharpen(image, strength);
    }
    if how.brightness.is_some() || how.contrast.is_some() || how.gamma.is_some() {
        image = tones(image, &curve(how));
    }
    match how.saturation {
        Some(factor) if factor != 1.0 => saturate(image, factor),
        _ => image,
    }
}

fn byte(value: f32) -> u8 {
    value.round().clamp(0.0, 255.0) as u8
}

/// What becomes of each value of a channel.
fn curve(how: &Transform) -> [u8; 256] {
    std::array::from_fn(|value| {
        let mut value = value as f32 * how.brightness.unwrap_or(1.0);
        value = (value - 128.0) * how.contrast.unwrap_or(1.0) + 128.0;
        let exposed = (value.clamp(0.0, 255.0) / 255.0).powf(1.0 / how.gamma.unwrap_or(1.0));
        byte(exposed * 255.0)
    })
}

/// The values of an image, its channels, and how many of them are colours.
fn channels(image: &mut DynamicImage) -> Option<(&mut [u8], usize, usize)> {
    match image {
        DynamicImage::ImageLuma8(image) => Some((image, 1, 1)),
        DynamicImage::ImageLumaA8(image) => Some((image, 2, 1)),
        DynamicImage::ImageRgb8(image) => Some((image, 3, 3)),
        DynamicImage::ImageRgba8(image) => Some((image, 4, 3)),
        _ => None,
    }
}

fn tones(mut image: DynamicImage, curve: &[u8; 256]) -> DynamicImage {
    if let Some((values, channels, colors)) = channels(&mut image) {
        for value in values.chunks_exact_mut(channels).flat_map(|pixel| &mut pixel[..colors]) {
            *value = curve[usize::from(*value)];
        }
    }
    image
}

fn sharpen(mut image: DynamicImage, strength: f32) -> DynamicImage {
    let mut blurred = image.fast_blur(SHARPEN_SIGMA);
    let (Some((values, channels, colors)), Some((soft, ..))) =
        (channels(&mut image), self::channels(&mut blurred))
    else {
        return image;
    };
    for (pixel, soft) in values.chunks_exact_mut(channels).zip(soft.chunks_exact(channels)) {
        for (value, soft) in pixel[..colors].iter_mut().zip(soft) {
            let (sharp, soft) = (f32::from(*value), f32::from(*soft));
            *value = byte(sharp + (sharp - soft) * strength);
        }
    }
    image
}

fn saturate(mut image: DynamicImage, factor: f32) -> DynamicImage {
    let Some((values, channels, 3)) = channels(&mut image) else { return image };
    for pixel in values.chunks_exact_mut(channels) {
        let [r, g, b] = [pixel[0], pixel[1], pixel[2]].map(f32::from);
        let gray = 0.2126 * r + 0.7152 * g + 0.0722 * b;
        for (value, old) in pixel.iter_mut().zip([r, g, b]) {
            *value = byte(gray + (old - gray) * factor);
        }
    }
    image
}

/// `top` over `bottom`.
pub(crate) fn over(top: [u8; 4], bottom: [u8; 4]) -> [u8; 4] {
    blend(top, bottom, 1.0, Composite::Over)
}

/// Two pixels together. <https://www.w3.org/TR/compositing-1/#porterduffcompositingoperators>
pub(crate) fn blend(top: [u8; 4], bottom: [u8; 4], opacity: f32, how: Composite) -> [u8; 4] {
    let (a, b) = (f32::from(top[3]) / 255.0 * opacity, f32::from(bottom[3]) / 255.0);
    let (of_top, of_bottom) = match how {
        Composite::Over => (1.0, 1.0 - a),
        Composite::In => (b, 0.0),
        Composite::Atop => (b, 1.0 - a),
        Composite::Out => (1.0 - b, 0.0),
        Composite::Xor => (1.0 - b, 1.0 - a),
        Composite::Lighter => (1.0, 1.0),
    };
    let alpha = (a * of_top + b * of_bottom).min(1.0);
    if alpha <= 0.0 {
        return [0; 4];
    }
    let mut made = [0, 0, 0, byte(alpha * 255.0)];
    for ((made, top), bottom) in made.iter_mut().zip(top).zip(bottom).take(3) {
        let sum = f32::from(top) * a * of_top + f32::from(bottom) * b * of_bottom;
        *made = byte(sum / alpha);
    }
    made
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage};
    use proptest::prelude::*;

    use super::*;

    const RED: [u8; 4] = [255, 0, 0, 255];
    const BLUE: [u8; 4] = [0, 0, 255, 255];
    const CLEAR: [u8; 4] = [0; 4];

    #[test]
    fn pixels_come_together_as_porter_and_duff_say() {
        let blend = |top, bottom, how| super::blend(top, bottom, 1.0, how);
        assert_eq!(blend(RED, BLUE, Composite::Over), RED);
        assert_eq!(blend(CLEAR, BLUE, Composite::Over), BLUE);
        assert_eq!(blend(CLEAR, BLUE, Composite::In), CLEAR);
        assert_eq!(blend(RED, CLEAR, Composite::In), CLEAR);
        assert_eq!(blend(CLEAR, BLUE, Composite::Atop), BLUE);
        assert_eq!(blend(RED, CLEAR, Composite::Out), RED);
        assert_eq!(blend(RED, BLUE, Composite::Xor), CLEAR);
        assert_eq!(blend(RED, BLUE, Composite::Lighter), [255, 0, 255, 255]);
        assert_eq!(super::blend(RED, BLUE, 0.5, Composite::Over), [128, 0, 128, 255]);
    }

    fn one(pixel: [u8; 3], how: Transform) -> [u8; 3] {
        let image = DynamicImage::ImageRgb8(RgbImage::from_pixel(3, 3, Rgb(pixel)));
        apply(image, &how).into_rgb8().get_pixel(1, 1).0
    }

    #[test]
    fn factors_change_colours() {
        let plain = Transform::default;
        assert_eq!(one([100, 50, 200], Transform { brightness: Some(0.5), ..plain() }), [50, 25, 100]);
        assert_eq!(one([100, 128, 200], Transform { contrast: Some(2.0), ..plain() }), [72, 128, 255]);
        assert_eq!(one([64, 64, 64], Transform { gamma: Some(2.0), ..plain() }), [128; 3]);
        let gray = one([200, 10, 90], Transform { saturation: Some(0.0), ..plain() });
        assert!(gray[0] == gray[1] && gray[1] == gray[2]);
        assert_eq!(one([9, 8, 7], Transform { blur: Some(50.0), sharpen: Some(3.0), ..plain() }), [9, 8, 7]);
    }

    proptest! {
        #[test]
        fn nothing_over_something_changes_nothing(bottom in any::<[u8; 4]>()) {
            let made = over(CLEAR, bottom);
            prop_assert_eq!(made[3], bottom[3]);
            prop_assert!(bottom[3] == 0 || made == bottom);
        }

        #[test]
        fn an_opaque_pixel_hides_what_is_below(top in any::<[u8; 3]>(), bottom in any::<[u8; 4]>()) {
            let top = [top[0], top[1], top[2], 255];
            prop_assert_eq!(over(top, bottom), top);
        }
    }
}
