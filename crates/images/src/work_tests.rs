//! Jobs as a process does them, here without one.

use std::io::Cursor;

use image::codecs::gif::GifEncoder;
use image::{Delay, DynamicImage, Frame, ImageFormat, Rgb, RgbImage, Rgba, RgbaImage};
use serde_json::json;

use super::*;
use crate::format::Output;
use crate::geometry::MAX_SIDE;
use crate::operations;

/// Left half red, right half blue.
fn halves(width: u32, height: u32) -> Vec<u8> {
    let image = RgbImage::from_fn(width, height, |x, _| match x < width / 2 {
        true => Rgb([255, 0, 0]),
        false => Rgb([0, 0, 255]),
    });
    written(&DynamicImage::ImageRgb8(image), ImageFormat::Png)
}

fn written(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn run(images: &[&[u8]], task: Task) -> (Answer, Vec<u8>) {
    let job = Job { lengths: images.iter().map(|image| image.len()).collect(), task };
    let (mut asked, mut said) = (Vec::new(), Vec::new());
    job::write(&mut asked, &job, &images.concat()).unwrap();
    work(asked.as_slice(), &mut said).unwrap();
    let mut from = said.as_slice();
    let answer = job::read(&mut from).unwrap();
    (answer, from.to_vec())
}

fn plan(steps: serde_json::Value, format: Output, images: usize) -> Plan {
    let steps = operations::parse(&steps.to_string(), images).unwrap();
    Plan { steps, format, quality: 85, background: None, animated: true }
}

fn made(images: &[&[u8]], steps: serde_json::Value, format: Output) -> Vec<u8> {
    match run(images, Task::Transform(plan(steps, format, images.len()))) {
        (Answer::Image, bytes) => bytes,
        (other, _) => panic!("{other:?}"),
    }
}

fn refused(images: &[&[u8]], steps: serde_json::Value, format: Output) -> ImagesError {
    match run(images, Task::Transform(plan(steps, format, images.len()))) {
        (Answer::Failed(error), _) => error,
        (other, _) => panic!("{other:?}"),
    }
}

fn pixels(bytes: &[u8]) -> RgbaImage {
    image::load_from_memory(bytes).unwrap().into_rgba8()
}

#[test]
fn an_image_is_told_of() {
    let bytes = halves(30, 20);
    let (Answer::Info(info), _) = run(&[&bytes], Task::Info) else { panic!() };
    assert_eq!((info.format.as_str(), info.file_size), ("image/png", Some(bytes.len())));
    assert_eq!((info.width, info.height), (Some(30), Some(20)));
    let (Answer::Info(svg), _) = run(&[b"<svg xmlns='http://www.w3.org/2000/svg'/>"], Task::Info) else {
        panic!()
    };
    assert_eq!(serde_json::to_value(svg).unwrap(), json!({ "format": "image/svg+xml" }));
    let (Answer::Failed(error), _) = run(&[b"<html>"], Task::Info) else { panic!() };
    assert_eq!(error.code, 9412);
}

#[test]
fn every_format_is_written_and_read() {
    let bytes = halves(40, 20);
    for (format, kind) in [
        (Output::Png, ImageFormat::Png),
        (Output::Jpeg, ImageFormat::Jpeg),
        (Output::Gif, ImageFormat::Gif),
        (Output::WebP, ImageFormat::WebP),
    ] {
        let image = made(&[&bytes], json!([{ "imageIndex": 0, "width": 20 }]), format);
        assert_eq!(image::guess_format(&image).unwrap(), kind);
        let again = made(&[&image], json!([]), Output::Rgba);
        assert_eq!(again.len(), 20 * 10 * 4, "{kind:?}");
        assert!(again[0] > 200 && again[2] < 60 && again[3] == 255, "{kind:?}: {:?}", &again[..4]);
        let (Answer::Info(info), _) = run(&[&image], Task::Info) else { panic!() };
        assert_eq!(info.format, format.mime());
    }
    assert_eq!(made(&[&bytes], json!([]), Output::Rgb).len(), 40 * 20 * 3);
}

#[test]
fn steps_happen_in_their_order() {
    let bytes = halves(40, 20);
    let steps = json!([
        { "imageIndex": 0, "rotate": 90 },
        { "imageIndex": 0, "width": 10, "height": 10, "fit": "cover", "gravity": "top" },
        { "imageIndex": 0, "border": { "color": "lime", "width": 2 } },
    ]);
    let image = pixels(&made(&[&bytes], steps, Output::Png));
    assert_eq!(image.dimensions(), (14, 14));
    assert_eq!(image.get_pixel(0, 0).0, [0, 255, 0, 255]);
    assert_eq!(image.get_pixel(7, 7).0, [255, 0, 0, 255]);
}

#[test]
fn what_is_padded_is_white_or_as_said() {
    let bytes = halves(40, 20);
    let padded = |more: serde_json::Value| {
        let mut step = json!({ "imageIndex": 0, "width": 40, "height": 40, "fit": "pad" });
        step.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        pixels(&made(&[&bytes], json!([step]), Output::Png)).get_pixel(0, 0).0
    };
    assert_eq!(padded(json!({})), [255; 4]);
    assert_eq!(padded(json!({ "background": "#123456" })), [0x12, 0x34, 0x56, 255]);
    assert_eq!(padded(json!({ "background": "transparent" })), [0; 4]);
}

#[test]
fn one_image_is_drawn_onto_another() {
    let canvas = halves(40, 20);
    let green = DynamicImage::ImageRgba8(RgbaImage::from_pixel(10, 10, Rgba([0, 255, 0, 255])));
    let green = written(&green, ImageFormat::Png);
    let steps = json!([
        { "imageIndex": 1, "width": 4 },
        { "drawImageIndex": 1, "targetImageIndex": 0, "right": 2, "top": 1 },
    ]);
    let image = pixels(&made(&[&canvas, &green], steps, Output::Png));
    assert_eq!(image.get_pixel(34, 1).0, [0, 255, 0, 255]);
    assert_eq!(image.get_pixel(37, 4).0, [0, 255, 0, 255]);
    assert_eq!(image.get_pixel(38, 1).0, [0, 0, 255, 255]);
    assert_eq!(image.get_pixel(34, 0).0, [0, 0, 255, 255]);
    let tiled = json!([{ "drawImageIndex": 1, "targetImageIndex": 0, "repeat": true, "opacity": 0.5 }]);
    let image = pixels(&made(&[&canvas, &green], tiled, Output::Png));
    assert_eq!(
        (image.get_pixel(0, 0).0, image.get_pixel(39, 19).0),
        ([128, 128, 0, 255], [0, 128, 128, 255])
    );
}

/// A red, then a blue frame.
fn animation() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = GifEncoder::new(&mut bytes);
    for color in [[255, 0, 0, 255], [0, 0, 255, 255]] {
        let image = RgbaImage::from_pixel(16, 8, Rgba(color));
        encoder.encode_frame(Frame::from_parts(image, 0, 0, Delay::from_numer_denom_ms(100, 1))).unwrap();
    }
    drop(encoder);
    bytes
}

#[test]
fn animations_stay_so_where_the_format_can_and_nobody_minds() {
    let bytes = animation();
    for format in [Output::Gif, Output::WebP] {
        let mut plan = plan(json!([{ "imageIndex": 0, "width": 8 }]), format, 1);
        let (Answer::Image, moving) = run(&[&bytes], Task::Transform(plan.clone())) else {
            panic!("{format:?}")
        };
        let decoded = crate::decode::decode(&moving, true).unwrap();
        assert_eq!(decoded.frames.len(), 2, "{format:?}");
        assert_eq!(decoded.frames[0].delay_ms, 100, "{format:?}");
        let second = decoded.frames[1].image.to_rgba8();
        assert!(second.dimensions() == (8, 4) && second.get_pixel(4, 2).0[2] > 200, "{format:?}");
        plan.animated = false;
        let (Answer::Image, still) = run(&[&bytes], Task::Transform(plan)) else { panic!("{format:?}") };
        assert_eq!(crate::decode::decode(&still, true).unwrap().frames.len(), 1, "{format:?}");
    }
    assert_eq!(pixels(&made(&[&bytes], json!([]), Output::Png)).get_pixel(0, 0).0, [255, 0, 0, 255]);
}

#[test]
fn what_is_not_opaque_gets_a_white_ground_in_a_jpeg() {
    let clear = DynamicImage::ImageRgba8(RgbaImage::from_pixel(8, 8, Rgba([0, 0, 0, 0])));
    let image = made(&[&written(&clear, ImageFormat::Png)], json!([]), Output::Jpeg);
    assert!(pixels(&image).get_pixel(4, 4).0[0] > 250);
}

/// A PNG whose head says that it is so large, and that has nothing in it.
fn hollow(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = halves(1, 1);
    bytes[16..20].copy_from_slice(&width.to_be_bytes());
    bytes[20..24].copy_from_slice(&height.to_be_bytes());
    let sum = crc(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&sum.to_be_bytes());
    bytes
}

fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg()))
    })
}

#[test]
fn what_only_claims_to_be_large_is_refused_by_its_head() {
    for (width, height) in [(50_000, 50_000), (MAX_SIDE + 1, 1), (12_000, 12_000)] {
        let error = refused(&[&hollow(width, height)], json!([]), Output::Png);
        assert_eq!(error.code, 9413, "{error}");
    }
}

#[test]
fn what_would_become_too_large_is_refused() {
    let bytes = halves(40, 20);
    for step in [
        json!({ "imageIndex": 0, "width": 12_001, "fit": "contain" }),
        json!({ "imageIndex": 0, "width": 12_000, "height": 12_000, "fit": "squeeze" }),
        json!({ "imageIndex": 0, "border": { "width": 6000 } }),
    ] {
        assert_eq!(refused(&[&bytes], json!([step]), Output::Png).code, 9413);
    }
}

#[test]
fn an_animation_with_too_many_pixels_is_refused_and_its_first_image_is_not() {
    let mut bytes = Vec::new();
    let mut encoder = GifEncoder::new_with_speed(&mut bytes, 30);
    for _ in 0..13 {
        encoder.encode_frame(Frame::new(RgbaImage::new(2000, 2000))).unwrap();
    }
    drop(encoder);
    let error = refused(&[&bytes], json!([]), Output::Gif);
    assert!(
        error.code == 9413 && error.text.contains("maximum number of animation frames allowed is 12"),
        "{error}"
    );
    assert_eq!(made(&[&bytes], json!([{ "imageIndex": 0, "width": 10 }]), Output::Rgb).len(), 300);
}

#[test]
fn damaged_images_are_refused() {
    let whole = written(&image::load_from_memory(&halves(200, 200)).unwrap(), ImageFormat::Png);
    assert_eq!(refused(&[&whole[..60]], json!([]), Output::Png).code, 9516);
    assert_eq!(refused(&[b"RIFF\0\0\0\0WEBPxxxx"], json!([]), Output::Png).code, 9516);
    assert_eq!(refused(&[b"<svg/>"], json!([]), Output::Png).code, 9412);
}

mod hostile {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Whatever is done to the bytes of an image: an answer.
        #[test]
        fn broken_bytes_end_in_an_answer(
            format in prop::sample::select(vec![Output::Png, Output::Jpeg, Output::Gif, Output::WebP]),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
            end in any::<prop::sample::Index>(),
        ) {
            let mut bytes = made(&[&halves(24, 16)], json!([]), format);
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes.truncate(end.index(bytes.len()) + 1);
            let plan = plan(json!([{ "imageIndex": 0, "width": 8 }]), Output::WebP, 1);
            let (answer, _) = run(&[&bytes], Task::Transform(plan));
            prop_assert!(matches!(answer, Answer::Image | Answer::Failed(_)));
        }
    }
}
