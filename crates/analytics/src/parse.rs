//! The JSON that the engine sends for `writeDataPoint`: Cap'n Proto's JSON encoding of its event. Pure.
//!
//! Data are arrays of bytes, 64-bit integers are strings, doubles that JSON cannot write are the strings `NaN`,
//! `Infinity` and `-Infinity`.

use std::fmt;

use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, de};

use crate::point::{BadPoint, COLUMNS, Point};

/// Reads and checks one point.
pub(crate) fn parse(json: &[u8]) -> Result<Point, BadPoint> {
    let Fields(point, stamped) =
        serde_json::from_slice(json).map_err(|error| BadPoint::Malformed(error.to_string()))?;
    if !stamped {
        return Err(BadPoint::Timestamp);
    }
    point.check()?;
    Ok(point)
}

/// A point, and whether it had a timestamp.
struct Fields(Point, bool);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a data point")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let mut stamped = false;
        let mut point = Point {
            timestamp: 0,
            index1: Vec::new(),
            blobs: [const { None }; COLUMNS],
            doubles: [0.0; COLUMNS],
        };
        while let Some(name) = map.next_key::<String>()? {
            if name == "timestamp" {
                point.timestamp = map.next_value::<Int>()?.0;
                stamped = true;
            } else if name == "index1" {
                point.index1 = map.next_value::<Option<Vec<u8>>>()?.unwrap_or_default();
            } else if let Some(slot) = column(&name, "blob").and_then(|n| point.blobs.get_mut(n)) {
                *slot = map.next_value()?;
            } else if let Some(slot) = column(&name, "double").and_then(|n| point.doubles.get_mut(n)) {
                *slot = map.next_value::<Double>()?.0;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(Fields(point, stamped))
    }
}

/// `blob3` is column 2.
fn column(name: &str, kind: &str) -> Option<usize> {
    name.strip_prefix(kind)?.parse::<usize>().ok()?.checked_sub(1)
}

struct Int(i64);

impl<'de> Deserialize<'de> for Int {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberVisitor).map(|number| Self(number.int))
    }
}

struct Double(f64);

impl<'de> Deserialize<'de> for Double {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberVisitor).map(|number| Self(number.double))
    }
}

/// A number in either of its two forms.
struct Number {
    int: i64,
    double: f64,
}

struct NumberVisitor;

impl de::Visitor<'_> for NumberVisitor {
    type Value = Number;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number or a number in a string")
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Number, E> {
        Ok(Number { int: number, double: number as f64 })
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Number, E> {
        Ok(Number { int: i64::try_from(number).unwrap_or(i64::MAX), double: number as f64 })
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Number, E> {
        Ok(Number { int: number as i64, double: number })
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Number, E> {
        let double = text.parse::<f64>().map_err(|_| E::custom(format!("\"{text}\" is not a number")))?;
        Ok(Number { int: text.parse().unwrap_or(double as i64), double })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn text(point: &serde_json::Value) -> String {
        parse(point.to_string().as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn the_engines_json_is_read() {
        let point = parse(
            br#"{"accountId":"1","dataset":[97],"schemaVersion":"0","index1":[105,100],
                "timestamp":"1795428075460999936","double1":1.5,"double2":2,"double3":"NaN","double4":"-Infinity",
                "blob1":[98,49],"blob3":[],"blob21":[1],"blob0":[1]}"#,
        )
        .unwrap();
        assert_eq!(point.timestamp, 1_795_428_075_460_999_936);
        assert_eq!(point.index1, b"id");
        assert_eq!(point.doubles[..2], [1.5, 2.0]);
        assert!(
            point.doubles[2].is_nan() && point.doubles[3] == f64::NEG_INFINITY && point.doubles[19] == 0.0
        );
        assert_eq!(point.blobs[..3], [Some(b"b1".to_vec()), None, Some(Vec::new())]);
        assert!(point.blobs[3..].iter().all(Option::is_none));
    }

    #[test]
    fn what_is_too_large_is_refused() {
        let point = |index: usize, blob: usize| json!({"timestamp": "1", "index1": vec![1; index], "blob1": vec![1; blob], "blob2": [1]});
        assert!(parse(point(96, 15_999).to_string().as_bytes()).is_ok());
        assert_eq!(text(&point(97, 1)), "Size of indexes[0] exceeds 96 bytes");
        assert_eq!(text(&point(1, 16_000)), "Cumulative size of blobs exceeds 16000 bytes");
        assert_eq!(text(&json!({"index1": []})), "The data point has no timestamp");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in prop_oneof![
            ".{0,60}",
            "\\{(\"(timestamp|index1|blob1|blob21|double1)\":(1e999|-1|\"\"|\"NaN\"|\\[256\\]|\\[1\\]|null),?){0,4}\\}",
        ]) {
            let _ = parse(text.as_bytes());
        }
    }
}
