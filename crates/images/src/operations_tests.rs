use proptest::prelude::*;

use super::*;

fn one(options: &str) -> Result<Transform, ImagesError> {
    let steps = parse(&format!(r#"[{{"imageIndex":0,{options}}}]"#), 1)?;
    let [Step::Transform { image: 0, transform }] = steps.as_slice() else { panic!("{steps:?}") };
    Ok((**transform).clone())
}

fn why(result: Result<impl std::fmt::Debug, ImagesError>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn options_of_a_transform_are_read() {
    let read = one(
        r##""width":200.4,"height":100,"fit":"cover","gravity":{"x":0.25,"mode":"box-center"},"rotate":-90,"flip":"hv",
           "blur":20,"background":"#fff","border":{"color":"red","width":3,"left":1},"trim":{"top":4,"width":5}"##,
    )
    .unwrap();
    let wanted = Transform {
        width: Some(200),
        height: Some(100),
        fit: Fit::Cover,
        gravity: Gravity { x: 0.25, y: 0.5, around: true },
        turns: 3,
        flip: Some(Flip::Both),
        blur: Some(20.0),
        background: Some(Color::WHITE),
        border: Some(Border { color: Color([255, 0, 0, 255]), top: 3, right: 3, bottom: 3, left: 1 }),
        trim: Some(Trim { top: 4, width: Some(5), ..Trim::default() }),
        ..Transform::default()
    };
    assert_eq!(read, wanted);
}

#[test]
fn what_frameworks_leave_null_is_left_out() {
    assert_eq!(one(r#""width":null,"fit":null"#).unwrap(), Transform::default());
}

#[test]
fn what_is_not_honoured_is_refused_by_name() {
    for (options, text) in [
        (r#""gravity":"face""#, "transform.gravity face is not supported by Skep"),
        (r#""gravity":"auto""#, "transform.gravity auto is not supported by Skep"),
        (r#""segment":"foreground""#, "transform.segment is not supported by Skep"),
        (r#""trim":"border""#, "transform.trim border is not supported by Skep"),
        (r#""trim":{"border":true}"#, "transform.trim.border is not supported by Skep"),
        (r#""fit":"inside""#, "transform.fit inside is not supported by Skep"),
        (r#""width":"200""#, r#"transform.width must be a number from 0.5 to 4294967295, not "200""#),
        (r#""blur":251"#, "transform.blur must be a number from 0 to 250, not 251"),
        (r#""rotate":45"#, "transform.rotate must be 0, 90, 180 or 270"),
        (r#""background":"greenish""#, r#"transform.background is no colour: "greenish""#),
    ] {
        assert_eq!(why(one(options)), format!("ERROR 9401: Missing or invalid resizing parameters: {text}"));
    }
}

#[test]
fn drawings_are_read() {
    let text = r#"[{"imageIndex":1,"width":5},{"drawImageIndex":1,"targetImageIndex":0,"bottom":5,"right":6.6,"opacity":0.5,"repeat":"x"}]"#;
    let steps = parse(text, 2).unwrap();
    let draw = Draw {
        opacity: 0.5,
        repeat: Repeat { x: true, y: false },
        composite: Composite::Over,
        left: None,
        top: None,
        right: Some(7),
        bottom: Some(5),
    };
    assert_eq!(steps[1], Step::Draw { image: 1, onto: 0, draw });
}

#[test]
fn drawings_that_cannot_be_are_refused() {
    for (steps, text) in [
        (r#"{"drawImageIndex":1,"targetImageIndex":0,"left":1,"right":1}"#, "both left and right"),
        (r#"{"drawImageIndex":2,"targetImageIndex":0}"#, "drawImageIndex is no image"),
        (r#"{"drawImageIndex":1,"targetImageIndex":1}"#, "used after it was drawn"),
        (r#"{"drawImageIndex":0,"targetImageIndex":1}"#, "used after it was drawn"),
        (r#"{"drawImageIndex":1,"targetImageIndex":0},{"imageIndex":1}"#, "used after it was drawn"),
        (
            r#"{"drawImageIndex":1,"targetImageIndex":0},{"drawImageIndex":1,"targetImageIndex":0}"#,
            "used after it was drawn",
        ),
        (r#"{"width":1}"#, "imageIndex is no image"),
        ("1", "transform must be an object"),
    ] {
        let said = why(parse(&format!("[{steps}]"), 2));
        assert!(said.contains(text), "{said}");
    }
    let many = vec![r#"{"imageIndex":0}"#; MAX_STEPS + 1].join(",");
    assert!(why(parse(&format!("[{many}]"), 1)).contains("more than 100 calls"));
    assert!(why(parse("{", 1)).contains("ERROR 9432"));
}

proptest! {
    #[test]
    fn whatever_comes_is_read_or_refused(
        name in "width|height|rotate|fit|gravity|trim|border|blur|opacity|left|repeat|drawImageIndex",
        value in "null|true|-?[0-9]{1,12}(\\.[0-9]{1,3})?(e[0-9]{1,3})?|\"[a-z]{0,8}\"|\\[\\]|\\{\"x\":[0-9]\\}",
    ) {
        if let Ok(steps) = parse(&format!(r#"[{{"imageIndex":0,"targetImageIndex":0,"{name}":{value}}}]"#), 2) {
            prop_assert_eq!(steps.len(), 1);
        }
        if let Ok(transform) = one(&format!(r#""{name}":{value}"#)) {
            prop_assert!(transform.turns < 4);
            prop_assert!(transform.width != Some(0) && transform.height != Some(0));
        }
    }
}
