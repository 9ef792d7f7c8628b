//! Colours as the web means them: what an image's own profile says is turned into sRGB, as the profile goes with all metadata.

use image::DynamicImage;
use moxcms::{ColorProfile, DataColorSpace, Layout, TransformExecutor, TransformOptions};

/// Turns the colours of an image with the ICC profile `profile` into sRGB. Where the profile is damaged, of another kind than
/// the pixels, or not understood, they stay as they are, as in a browser.
pub(crate) fn to_srgb(image: DynamicImage, profile: &[u8]) -> DynamicImage {
    let Some((layout, source)) = layout(&image).zip(read(profile)) else { return image };
    let options = TransformOptions::default();
    let Ok(transform) = source.create_transform_8bit(layout, &ColorProfile::new_srgb(), layout, options)
    else {
        return image;
    };
    match image {
        DynamicImage::ImageRgb8(mut pixels) => {
            by_pieces(&*transform, &mut pixels, 3);
            DynamicImage::ImageRgb8(pixels)
        }
        DynamicImage::ImageRgba8(mut pixels) => {
            by_pieces(&*transform, &mut pixels, 4);
            DynamicImage::ImageRgba8(pixels)
        }
        other => other,
    }
}

fn layout(image: &DynamicImage) -> Option<Layout> {
    match image {
        DynamicImage::ImageRgb8(_) => Some(Layout::Rgb),
        DynamicImage::ImageRgba8(_) => Some(Layout::Rgba),
        _ => None,
    }
}

fn read(profile: &[u8]) -> Option<ColorProfile> {
    ColorProfile::new_from_slice(profile).ok().filter(|profile| profile.color_space == DataColorSpace::Rgb)
}

/// Piece by piece: there is no room for a second image.
fn by_pieces(transform: &dyn TransformExecutor<u8>, values: &mut [u8], channels: usize) {
    let mut before = vec![0; 1024 * channels];
    for piece in values.chunks_mut(1024 * channels) {
        let before = &mut before[..piece.len()];
        before.copy_from_slice(piece);
        if transform.transform(before, piece).is_err() {
            piece.copy_from_slice(before);
        }
    }
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage};

    use super::*;

    fn one(color: [u8; 3]) -> DynamicImage {
        DynamicImage::ImageRgb8(RgbImage::from_pixel(40, 40, Rgb(color)))
    }

    fn first(image: DynamicImage) -> [u8; 3] {
        image.into_rgb8().get_pixel(39, 39).0
    }

    #[test]
    fn colours_of_a_wider_space_become_those_of_the_web() {
        let p3 = ColorProfile::new_display_p3().encode().unwrap();
        let [r, g, b] = first(to_srgb(one([200, 100, 100]), &p3));
        // More saturated in numbers, as sRGB reaches less far.
        assert!(r > 205 && g < 98 && b < 100, "{r} {g} {b}");
        let gray = first(to_srgb(one([128; 3]), &p3));
        assert!(gray.iter().all(|value| value.abs_diff(128) <= 1), "{gray:?}");
    }

    #[test]
    fn a_profile_that_is_none_changes_nothing() {
        assert_eq!(first(to_srgb(one([200, 100, 100]), b"no profile")), [200, 100, 100]);
        let gray = ColorProfile::new_gray_with_gamma(2.2).encode().unwrap();
        assert_eq!(first(to_srgb(one([200, 100, 100]), &gray)), [200, 100, 100]);
    }
}
