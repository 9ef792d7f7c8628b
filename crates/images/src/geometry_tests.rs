use proptest::prelude::*;

use super::*;
use crate::operations::{Composite, Repeat};

const fn size(width: u32, height: u32) -> Size {
    Size { width, height }
}

fn fit(source: Size, width: u32, height: u32, fit: Fit) -> Fitting {
    fitting(source, Some(width), Some(height), fit, Gravity::default())
}

#[test]
fn sizes_are_those_of_cloudflares_examples() {
    for (source, asked, how, made) in [
        (size(1080, 720), size(2000, 2000), Fit::ScaleDown, size(1080, 720)),
        (size(1080, 720), size(500, 500), Fit::ScaleDown, size(500, 333)),
        (size(1080, 720), size(2160, 2160), Fit::Contain, size(2160, 1440)),
        (size(1080, 720), size(500, 500), Fit::Cover, size(500, 500)),
        (size(1080, 720), size(1296, 1296), Fit::Crop, size(1080, 720)),
        (size(1080, 720), size(500, 500), Fit::Crop, size(500, 500)),
        (size(612, 613), size(1920, 1120), Fit::AspectCrop, size(612, 357)),
        (size(1080, 720), size(1080, 1080), Fit::Pad, size(1080, 1080)),
        (size(1080, 720), size(1080, 540), Fit::Squeeze, size(1080, 540)),
    ] {
        assert_eq!(fit(source, asked.width, asked.height, how).canvas, made, "{source:?} {how:?}");
    }
}

#[test]
fn one_side_gives_the_other() {
    let wide = |how| fitting(size(300, 200), Some(150), None, how, Gravity::default()).canvas;
    for how in [Fit::ScaleDown, Fit::Contain, Fit::Cover, Fit::Crop, Fit::Pad, Fit::Squeeze] {
        assert_eq!(wide(how), size(150, 100), "{how:?}");
    }
    let high = |how| fitting(size(300, 200), None, Some(400), how, Gravity::default()).canvas;
    assert_eq!((high(Fit::ScaleDown), high(Fit::Contain)), (size(300, 200), size(600, 400)));
}

#[test]
fn gravity_says_what_is_cut_off() {
    let left = |gravity| fitting(size(300, 100), Some(100), Some(100), Fit::Cover, gravity).part.left;
    let at = |x, around| left(Gravity { x, y: 0.5, around });
    assert_eq!([at(0.0, false), at(0.5, false), at(1.0, false), at(0.25, false)], [0.0, 100.0, 200.0, 50.0]);
    assert_eq!([at(0.0, true), at(0.5, true), at(1.0, true), at(0.25, true)], [0.0, 100.0, 200.0, 25.0]);
}

#[test]
fn trimming_leaves_something() {
    let trim = |trim| trimmed(size(100, 50), &trim);
    assert_eq!(
        trim(Trim { top: 10, right: 20, bottom: 5, left: 30, ..Trim::default() }),
        (30, 10, size(50, 35))
    );
    assert_eq!(
        trim(Trim { left: 90, width: Some(50), height: Some(5), ..Trim::default() }),
        (90, 0, size(10, 5))
    );
    assert_eq!(trim(Trim { top: 500, right: 500, ..Trim::default() }), (0, 49, size(1, 1)));
}

#[test]
fn what_is_drawn_is_placed_by_its_edges() {
    let draw = Draw {
        opacity: 1.0,
        repeat: Repeat::default(),
        composite: Composite::Over,
        left: None,
        top: None,
        right: None,
        bottom: None,
    };
    let place = |draw| place(size(100, 80), size(20, 10), &draw);
    assert_eq!(place(draw), (40, 35));
    assert_eq!(place(Draw { right: Some(5), bottom: Some(0), ..draw }), (75, 70));
    assert_eq!(place(Draw { left: Some(-3), top: Some(7), ..draw }), (-3, 7));
}

#[test]
fn what_is_too_large_is_refused() {
    let text = |result: Result<(), ImagesError>| result.unwrap_err().to_string();
    assert!(text(size(50_000, 1).check_input()).starts_with("ERROR 9413"));
    assert!(text(size(12_000, 12_000).check_input()).contains("maximum image area of 100 megapixels"));
    assert!(text(size(1, 12_001).check_output()).contains("enlarged too much: 1\u{d7}12001"));
    assert!(size(10_000, 10_000).check_input().is_ok());
    assert!(size(0, 5).check_input().is_err());
}

fn fits() -> impl Strategy<Value = Fit> {
    prop::sample::select(vec![
        Fit::ScaleDown,
        Fit::Contain,
        Fit::Cover,
        Fit::Crop,
        Fit::AspectCrop,
        Fit::Pad,
        Fit::Squeeze,
    ])
}

proptest! {
    #[test]
    fn what_is_made_is_within_what_is_asked_and_what_there_is(
        source in (1..=MAX_SIDE, 1..=MAX_SIDE),
        asked in (prop::option::of(1..=MAX_SIDE), prop::option::of(1..=MAX_SIDE)),
        fit in fits(),
        point in (0.0..=1.0, 0.0..=1.0, any::<bool>()),
    ) {
        let source = size(source.0, source.1);
        let gravity = Gravity { x: point.0, y: point.1, around: point.2 };
        let Fitting { part, size, canvas } = fitting(source, asked.0, asked.1, fit, gravity);
        prop_assert!(size.width >= 1 && size.height >= 1);
        prop_assert!(part.width > 0.0 && part.height > 0.0);
        prop_assert!(part.left >= 0.0 && part.left + part.width <= f64::from(source.width) + 1e-6);
        prop_assert!(part.top >= 0.0 && part.top + part.height <= f64::from(source.height) + 1e-6);
        prop_assert!(size.width <= canvas.width && size.height <= canvas.height);
        if let (Some(width), Some(height)) = asked {
            prop_assert!(canvas.width <= width && canvas.height <= height);
            if matches!(fit, Fit::Cover | Fit::Pad | Fit::Squeeze) {
                prop_assert_eq!((canvas.width, canvas.height), (width, height));
            }
        }
        if matches!(fit, Fit::ScaleDown | Fit::Crop | Fit::AspectCrop) {
            prop_assert!(size.width <= source.width && size.height <= source.height);
        }
    }

    #[test]
    fn trimming_stays_inside(
        source in (1..=MAX_SIDE, 1..=MAX_SIDE),
        cut in any::<[u32; 4]>(),
        kept in any::<(Option<u32>, Option<u32>)>(),
    ) {
        let [top, right, bottom, left] = cut.map(|n| n % 20_000);
        let trim = Trim { top, right, bottom, left, width: kept.0, height: kept.1 };
        let (x, y, Size { width, height }) = trimmed(size(source.0, source.1), &trim);
        prop_assert!(width >= 1 && height >= 1);
        prop_assert!(x + width <= source.0 && y + height <= source.1);
    }
}
