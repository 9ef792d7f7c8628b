//! Functions that SQLite lacks, or means otherwise.

use jiff::tz::TimeZone;
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, Error, Result};

use super::dates;
use super::types::Unit;

const FLAGS: FunctionFlags = FunctionFlags::SQLITE_UTF8.union(FunctionFlags::SQLITE_DETERMINISTIC);

type Function = fn(&Context<'_>) -> Result<Value>;

/// Name, number of arguments (−1: any), function.
const FUNCTIONS: &[(&str, i32, Function)] = &[
    ("ae_parse", 2, |c| times(dates::parse(&text(c, 0)?, &zone(c, 1)?))),
    ("ae_add", 4, |c| match c.get::<Option<i64>>(0)? {
        Some(at) => times(dates::add(at, whole(c, 1)?, unit(c, 2)?, &zone(c, 3)?)),
        None => Ok(Value::Null),
    }),
    ("ae_start", 4, |c| match c.get::<Option<i64>>(0)? {
        Some(at) => times(dates::start(at, whole(c, 1)?, unit(c, 2)?, &zone(c, 3)?)),
        None => Ok(Value::Null),
    }),
    ("ae_part", 3, |c| match c.get::<Option<i64>>(0)? {
        Some(at) => times(dates::part(at, &text(c, 1)?, &zone(c, 2)?)),
        None => Ok(Value::Null),
    }),
    ("ae_when", 3, |c| match c.get::<Option<i64>>(0)? {
        Some(at) => {
            let shown = dates::format(at, &text(c, 1)?, &zone(c, 2)?);
            shown.map(Value::Text).ok_or_else(|| wrong("the format of a time has a part that is not known"))
        }
        None => Ok(Value::Null),
    }),
    ("ae_like", 3, |c| {
        let (mut pattern, mut text) = (text(c, 0)?, text(c, 1)?);
        if whole(c, 2)? == 1 {
            (pattern, text) = (pattern.to_lowercase(), text.to_lowercase());
        }
        Ok(Value::Integer(like(&pattern, &text)?.into()))
    }),
    ("ae_starts", 2, |c| Ok(Value::Integer(text(c, 0)?.starts_with(&text(c, 1)?).into()))),
    ("ae_ends", 2, |c| Ok(Value::Integer(text(c, 0)?.ends_with(&text(c, 1)?).into()))),
    ("ae_lower", 1, |c| Ok(Value::Text(text(c, 0)?.to_lowercase()))),
    ("ae_upper", 1, |c| Ok(Value::Text(text(c, 0)?.to_uppercase()))),
    ("ae_template", -1, |c| {
        let template = text(c, 0)?;
        let mut parts = template.split("{}");
        let mut out = parts.next().unwrap_or_default().to_owned();
        for (n, part) in parts.enumerate() {
            let missing = || wrong("format() has more {} than arguments");
            out.push_str(&(n + 1 < c.len()).then(|| text(c, n + 1)).transpose()?.ok_or_else(missing)?);
            out.push_str(part);
        }
        Ok(Value::Text(out))
    }),
    ("ae_ln", 1, |c| float(c, 0)?.map_or(Ok(Value::Null), |x| Ok(Value::Real(x.ln())))),
    ("ae_pow", 2, |c| match (float(c, 0)?, float(c, 1)?) {
        (Some(x), Some(y)) => Ok(Value::Real(x.powf(y))),
        _ => Ok(Value::Null),
    }),
    ("ae_mod", 2, |c| match (float(c, 0)?, float(c, 1)?) {
        (Some(x), Some(y)) => Ok(Value::Real(x % y)),
        _ => Ok(Value::Null),
    }),
    // To the even one of two that are as near, as in ClickHouse.
    ("ae_round", 2, |c| scaled(c, f64::round_ties_even)),
    ("ae_floor", 2, |c| scaled(c, f64::floor)),
    ("ae_ceil", 2, |c| scaled(c, f64::ceil)),
    ("ae_bits", 4, |c| bits(&text(c, 0)?, c.get::<Option<i64>>(1)?, whole(c, 2)?, whole(c, 3)?)),
    ("ae_digits", 2, |c| {
        let bytes = match c.get_raw(0) {
            ValueRef::Integer(value) => {
                let bytes = value.to_be_bytes();
                bytes[bytes.iter().position(|b| *b != 0).unwrap_or(7)..].to_vec()
            }
            ValueRef::Real(value) => value.to_le_bytes().to_vec(),
            ValueRef::Text(text) | ValueRef::Blob(text) => text.to_vec(),
            ValueRef::Null => return Ok(Value::Null),
        };
        let each =
            |byte: &u8| if c.get::<i64>(1) == Ok(2) { format!("{byte:08b}") } else { format!("{byte:02X}") };
        Ok(Value::Text(bytes.iter().map(each).collect()))
    }),
];

/// Makes the functions known to a connection.
pub(crate) fn register(db: &Connection) -> Result<()> {
    for (name, arguments, function) in FUNCTIONS {
        db.create_scalar_function(*name, *arguments, FLAGS, *function)?;
    }
    Ok(())
}

/// What a query gets to hear.
pub(crate) fn wrong(what: &str) -> Error {
    Error::UserFunctionError(what.to_owned().into())
}

fn times(value: Option<i64>) -> Result<Value> {
    value.map(Value::Integer).ok_or_else(|| wrong("a time is none, or too far away"))
}

fn text(c: &Context<'_>, n: usize) -> Result<String> {
    Ok(match c.get_raw(n) {
        ValueRef::Null => String::new(),
        ValueRef::Integer(value) => value.to_string(),
        ValueRef::Real(value) => value.to_string(),
        ValueRef::Text(text) | ValueRef::Blob(text) => String::from_utf8_lossy(text).into_owned(),
    })
}

fn whole(c: &Context<'_>, n: usize) -> Result<i64> {
    Ok(match c.get_raw(n) {
        ValueRef::Integer(value) => value,
        ValueRef::Real(value) => value as i64,
        _ => 0,
    })
}

fn float(c: &Context<'_>, n: usize) -> Result<Option<f64>> {
    Ok(match c.get_raw(n) {
        ValueRef::Integer(value) => Some(value as f64),
        ValueRef::Real(value) => Some(value),
        _ => None,
    })
}

fn zone(c: &Context<'_>, n: usize) -> Result<TimeZone> {
    let name = text(c, n)?;
    dates::zone(&name).ok_or_else(|| wrong(&format!("unknown time zone: {name}")))
}

fn unit(c: &Context<'_>, n: usize) -> Result<Unit> {
    Unit::named(&text(c, n)?).ok_or_else(|| wrong("unknown unit of time"))
}

fn scaled(c: &Context<'_>, to: fn(f64) -> f64) -> Result<Value> {
    let Some(value) = float(c, 0)? else { return Ok(Value::Null) };
    let factor = 10f64.powi(whole(c, 1)?.clamp(-300, 300) as i32);
    let scaled = value * factor;
    // What is too large to have such a part is itself.
    Ok(Value::Real(if scaled.is_finite() { to(scaled) / factor } else { value }))
}

/// Bits of a number of `width` bits.
fn bits(what: &str, a: Option<i64>, n: i64, width: i64) -> Result<Value> {
    let Some(a) = a else { return Ok(Value::Null) };
    let width = width.clamp(1, 64) as u32;
    let mask = u64::MAX >> (64 - width);
    let a = a.cast_unsigned() & mask;
    let by = n.rem_euclid(i64::from(width)) as u32;
    let shift = u32::try_from(n).unwrap_or(u32::MAX);
    let result = match what {
        "not" => !a & mask,
        "xor" => a ^ (n.cast_unsigned() & mask),
        "left" => a.checked_shl(shift).unwrap_or(0) & mask,
        "right" => a.checked_shr(shift).unwrap_or(0),
        "rotate left" => ((a << by) | a.checked_shr(width - by).unwrap_or(0)) & mask,
        "rotate right" => (a.checked_shr(by).unwrap_or(0) | a.checked_shl(width - by).unwrap_or(0)) & mask,
        "test" => a.checked_shr(shift).unwrap_or(0) & 1,
        "count" => a.count_ones().into(),
        _ => return Err(wrong("unknown bits")),
    };
    Ok(Value::Integer(result.cast_signed()))
}

/// The longest pattern, in characters: matching takes as long as text and pattern together have pairs.
const PATTERN: usize = 1000;

/// Whether a text is of a pattern: `%` for any characters, `_` for one, `\` before one that means itself. Pure.
fn like(pattern: &str, text: &str) -> Result<bool> {
    let mut parts = Vec::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        parts.push(match c {
            '%' => Part::Any,
            '_' => Part::One,
            '\\' => Part::This(chars.next().unwrap_or('\\')),
            c => Part::This(c),
        });
        if parts.len() > PATTERN {
            return Err(wrong("the pattern of LIKE is too long"));
        }
    }
    let text: Vec<char> = text.chars().collect();
    let (mut at, mut of, mut back) = (0, 0, None);
    while at < text.len() {
        match parts.get(of) {
            Some(Part::Any) => {
                back = Some((at, of));
                of += 1;
            }
            Some(Part::One) => (at, of) = (at + 1, of + 1),
            Some(Part::This(c)) if *c == text[at] => (at, of) = (at + 1, of + 1),
            _ => match &mut back {
                Some((from, any)) => {
                    *from += 1;
                    (at, of) = (*from, *any + 1);
                }
                None => return Ok(false),
            },
        }
    }
    Ok(parts[of..].iter().all(|part| matches!(part, Part::Any)))
}

enum Part {
    Any,
    One,
    This(char),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_match_as_in_sql() {
        for (pattern, text, is) in [
            ("error%", "error: x", true),
            ("%.jpg", "a.jpg", true),
            ("%test%", "a test b", true),
            ("log__", "log12", true),
            ("log__", "log1", false),
            ("", "", true),
            ("%", "", true),
            ("a\\%", "a%", true),
            ("a\\%", "ab", false),
            ("%a%b%", "xxaxxbxx", true),
            ("é_", "éx", true),
        ] {
            assert_eq!(like(pattern, text).unwrap(), is, "{text} LIKE {pattern}");
        }
        assert!(like(&"a".repeat(1001), "a").is_err());
    }

    #[test]
    fn bits_are_those_of_the_width() {
        let bits = |what, a, n, width| match bits(what, Some(a), n, width).unwrap() {
            Value::Integer(value) => value,
            other => panic!("{other:?}"),
        };
        assert_eq!(bits("rotate left", 128, 1, 8), 1);
        assert_eq!(bits("rotate right", 1, 1, 8), 128);
        assert_eq!(bits("rotate right", 12, 2, 8), 3);
        assert_eq!((bits("left", 128, 1, 8), bits("right", 12, 2, 8)), (0, 3));
        assert_eq!((bits("test", 3, 1, 8), bits("test", 2, 0, 8)), (1, 0));
        assert_eq!((bits("not", 1, 0, 8), bits("xor", 1, 2, 8), bits("count", 7, 0, 8)), (254, 3, 3));
    }

    proptest! {
        #[test]
        fn a_pattern_means_what_a_regular_expression_would(pattern in "[ab%_]{0,8}", text in "[ab]{0,10}") {
            fn slow(pattern: &[u8], text: &[u8]) -> bool {
                match (pattern.first(), text.first()) {
                    (None, None) => true,
                    (Some(b'%'), _) => slow(&pattern[1..], text) || (!text.is_empty() && slow(pattern, &text[1..])),
                    (Some(b'_'), Some(_)) => slow(&pattern[1..], &text[1..]),
                    (Some(a), Some(b)) => a == b && slow(&pattern[1..], &text[1..]),
                    _ => false,
                }
            }
            prop_assert_eq!(like(&pattern, &text).unwrap(), slow(pattern.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn no_number_makes_bits_panic(a: i64, n: i64, width in -5..200i64, which in 0..8usize) {
            let all = ["not", "xor", "left", "right", "rotate left", "rotate right", "test", "count"];
            let _ = bits(all[which], Some(a), n, width);
        }
    }
}
