//! Bytes into pixels. They come from strangers: every size is looked at before there is memory for it.

use std::io::Cursor;

use image::codecs::gif::GifDecoder;
use image::codecs::jpeg::JpegDecoder;
use image::codecs::png::PngDecoder;
use image::codecs::webp::WebPDecoder;
use image::metadata::{LoopCount, Orientation};
use image::{AnimationDecoder, DynamicImage, Frames, ImageDecoder, ImageError, Limits};

use crate::error::ImagesError;
use crate::format::{Input, recognize};
use crate::geometry::{MAX_SIDE, Size};
use crate::job::Info;
use crate::picture::{Frame, Picture, eight_bits};
use crate::profile::to_srgb;

/// Bytes that a decoder may use at once.
const MAX_ALLOC: u64 = 512 << 20;
/// Pixels of all frames of an animation together: more are not transformed.
/// <https://developers.cloudflare.com/images/get-started/limits/#limits-for-animated-images>
const MAX_ANIMATION: u64 = 50_000_000;

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_ALLOC);
    limits
}

fn damaged(error: ImageError) -> ImagesError {
    match error {
        ImageError::Limits(error) => ImagesError::too_large(error),
        error => ImagesError::decoding(error),
    }
}

type Bytes<'a> = Cursor<&'a [u8]>;

/// A decoder that has read the head, whose size is checked.
enum Decoder<'a> {
    Png(Box<PngDecoder<Bytes<'a>>>),
    Jpeg(Box<JpegDecoder<Bytes<'a>>>),
    Gif(Box<GifDecoder<Bytes<'a>>>),
    WebP(Box<WebPDecoder<Bytes<'a>>>),
}

impl<'a> Decoder<'a> {
    /// Looks at the head only.
    fn open(format: Input, bytes: &'a [u8]) -> Result<Self, ImagesError> {
        let from = Cursor::new(bytes);
        Ok(match format {
            Input::Png => Self::Png(Box::new(PngDecoder::with_limits(from, limits()).map_err(damaged)?)),
            Input::Jpeg => Self::Jpeg(Box::new(JpegDecoder::new(from).map_err(damaged)?)),
            Input::Gif => Self::Gif(Box::new(GifDecoder::new(from).map_err(damaged)?)),
            Input::WebP => Self::WebP(Box::new(WebPDecoder::new(from).map_err(damaged)?)),
            Input::Svg => {
                let why = "Conversion between SVG and raster formats is not supported";
                return Err(ImagesError::svg(why));
            }
        })
    }

    fn as_decoder(&mut self) -> &mut dyn ImageDecoder {
        match self {
            Self::Png(decoder) => decoder.as_mut(),
            Self::Jpeg(decoder) => decoder.as_mut(),
            Self::Gif(decoder) => decoder.as_mut(),
            Self::WebP(decoder) => decoder.as_mut(),
        }
    }

    fn size(&mut self) -> Size {
        let (width, height) = self.as_decoder().dimensions();
        Size { width, height }
    }
}

/// What an image is, by its head.
pub(crate) fn info(bytes: &[u8]) -> Result<Info, ImagesError> {
    let format = recognize(bytes)?;
    let told = Info { format: format.mime().to_owned(), file_size: None, width: None, height: None };
    if format == Input::Svg {
        return Ok(told);
    }
    let Size { width, height } = Decoder::open(format, bytes)?.size();
    Ok(Info { file_size: Some(bytes.len()), width: Some(width), height: Some(height), ..told })
}

/// The pixels of an image, turned as its camera was held; of an animation all frames if `animated`, else the first.
pub(crate) fn decode(bytes: &[u8], animated: bool) -> Result<Picture, ImagesError> {
    let mut decoder = Decoder::open(recognize(bytes)?, bytes)?;
    let size = decoder.size();
    size.check_input()?;
    decoder.as_decoder().set_limits(limits()).map_err(damaged)?;
    match decoder {
        Decoder::Gif(decoder) if animated => {
            let loops = decoder.loop_count();
            frames(size, decoder.into_frames(), loops)
        }
        Decoder::WebP(decoder) if animated && decoder.has_animation() => {
            let loops = decoder.loop_count();
            frames(size, decoder.into_frames(), loops)
        }
        Decoder::Png(decoder) => still(*decoder),
        Decoder::Jpeg(decoder) => still(*decoder),
        Decoder::Gif(decoder) => still(*decoder),
        Decoder::WebP(decoder) => still(*decoder),
    }
}

fn still(mut decoder: impl ImageDecoder) -> Result<Picture, ImagesError> {
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let profile = decoder.icc_profile().unwrap_or_default();
    let mut image = eight_bits(DynamicImage::from_decoder(decoder).map_err(damaged)?);
    if let Some(profile) = profile {
        image = to_srgb(image, &profile);
    }
    image.apply_orientation(orientation);
    Ok(Picture::still(image))
}

fn frames(size: Size, frames: Frames<'_>, loops: LoopCount) -> Result<Picture, ImagesError> {
    let most = usize::try_from(MAX_ANIMATION / size.area().max(1)).unwrap_or(usize::MAX);
    let mut all = Vec::new();
    for frame in frames {
        let frame = frame.map_err(damaged)?;
        // A single frame is an image, which may be larger.
        if all.len() >= most.max(1) {
            let Size { width, height } = size;
            return Err(ImagesError::too_large(format!(
                "The animation is too large. Animation resolution is {width}\u{d7}{height}, and at this size the maximum number \
                 of animation frames allowed is {most} (total area of all frames together must be less than {MAX_ANIMATION})."
            )));
        }
        let (numerator, denominator) = frame.delay().numer_denom_ms();
        let delay_ms = numerator / denominator.max(1);
        all.push(Frame { image: DynamicImage::ImageRgba8(frame.into_buffer()), delay_ms });
    }
    if all.is_empty() {
        return Err(ImagesError::decoding("there are no frames"));
    }
    let loops = match loops {
        LoopCount::Infinite => 0,
        LoopCount::Finite(count) => count.get(),
    };
    Ok(Picture { frames: all, loops })
}
