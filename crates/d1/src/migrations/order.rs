//! The order of migration files.

use std::cmp::Ordering;

/// Compares two paths part by part: by the number that a part begins with, numbered before unnumbered, then
/// by text.
pub(super) fn compare(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a.split('/'), b.split('/'));
    loop {
        match (left.next(), right.next()) {
            (Some(a), Some(b)) => match compare_parts(a, b) {
                Ordering::Equal => {}
                order => return order,
            },
            (None, None) => return Ordering::Equal,
            (a, _) => return if a.is_none() { Ordering::Less } else { Ordering::Greater },
        }
    }
}

fn compare_parts(a: &str, b: &str) -> Ordering {
    let by_number = match (number(a), number(b)) {
        (Some(a), Some(b)) => a.total_cmp(&b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => Ordering::Equal,
    };
    // JavaScript compares UTF-16 units.
    by_number.then_with(|| a.encode_utf16().cmp(b.encode_utf16()))
}

/// The number before the first `_`, as JavaScript's `parseInt` reads it.
fn number(part: &str) -> Option<f64> {
    let head = part.split('_').next().unwrap_or("").trim_start();
    let (sign, digits) = match head.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, head.strip_prefix('+').unwrap_or(head)),
    };
    let len = digits.bytes().take_while(u8::is_ascii_digit).count();
    let value: f64 = digits.get(..len)?.parse().ok()?;
    // -0 and 0 are one number.
    Some(sign * value + 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_count_as_numbers_and_come_first() {
        let mut names =
            ["init.sql", "10_c.sql", "9_b.sql", "1_a.sql", "0001_a.sql", "2x.sql", "b/1.sql", "2_a/m.sql"];
        names.sort_by(|a, b| compare(a, b));
        let order =
            ["0001_a.sql", "1_a.sql", "2_a/m.sql", "2x.sql", "9_b.sql", "10_c.sql", "b/1.sql", "init.sql"];
        assert_eq!(names, order);
    }
}
