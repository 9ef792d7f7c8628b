//! The difference of two versions of a page, small where they are alike. Pure.
//!
//! Written as pairs: how many bytes are the same, how many differ, and these as `a XOR b`. From either version and the
//! difference comes the other; two differences in a row are one, which is how history is thinned.

/// So many equal bytes in a row are worth a pair of their own.
const RUN: usize = 4;

/// Appends a number in 7-bit groups, the lowest first.
pub(super) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Takes such a number from the front.
pub(super) fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

/// Takes `len` bytes from the front.
pub(super) fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (head, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(head)
}

/// The difference of two pages of one size. Equal ones have an empty one.
pub(super) fn between(a: &[u8], b: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let len = a.len().min(b.len());
    let mut at = 0;
    while at < len {
        let start = at + same(&a[at..len], &b[at..len]);
        if start == len {
            break;
        }
        let end = start + differing(&a[start..len], &b[start..len]);
        put_number(&mut out, (start - at) as u64);
        put_number(&mut out, (end - start) as u64);
        out.extend(a[start..end].iter().zip(&b[start..end]).map(|(a, b)| a ^ b));
        at = end;
    }
    out
}

/// How many bytes at the front are the same.
fn same(a: &[u8], b: &[u8]) -> usize {
    let words = a.chunks_exact(16).zip(b.chunks_exact(16)).take_while(|(a, b)| a == b).count() * 16;
    words + a[words..].iter().zip(&b[words..]).take_while(|(a, b)| a == b).count()
}

/// How many bytes it takes until [`RUN`] are the same, or to the last that differs.
fn differing(a: &[u8], b: &[u8]) -> usize {
    let mut end = 0;
    for (at, (a, b)) in a.iter().zip(b).enumerate() {
        if a != b {
            end = at + 1;
        } else if at + 1 - end >= RUN {
            break;
        }
    }
    end
}

/// Makes the one version of the other, in place; `None` if it is no difference of pages of this size.
pub(super) fn apply(mut delta: &[u8], page: &mut [u8]) -> Option<()> {
    let mut at = 0usize;
    while !delta.is_empty() {
        let skip = usize::try_from(take_number(&mut delta)?).ok()?;
        let len = usize::try_from(take_number(&mut delta)?).ok()?;
        let start = at.checked_add(skip)?;
        at = start.checked_add(len)?;
        let part = page.get_mut(start..at)?;
        part.iter_mut().zip(take(&mut delta, len)?).for_each(|(byte, mask)| *byte ^= mask);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A page of which some places were changed.
    fn pages() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
        let base = proptest::collection::vec(any::<u8>(), 512);
        (base, proptest::collection::vec((0..512usize, any::<u8>()), 0..40)).prop_map(|(a, changes)| {
            let mut b = a.clone();
            changes.into_iter().for_each(|(at, byte)| b[at] = byte);
            (a, b)
        })
    }

    proptest! {
        #[test]
        fn a_difference_leads_both_ways((a, b) in pages()) {
            let delta = between(&a, &b);
            prop_assert_eq!(delta.is_empty(), a == b);
            let (mut from_a, mut from_b) = (a.clone(), b.clone());
            apply(&delta, &mut from_a).unwrap();
            apply(&delta, &mut from_b).unwrap();
            prop_assert_eq!(&from_a, &b);
            prop_assert_eq!(&from_b, &a);
        }

        #[test]
        fn no_bytes_make_it_panic(delta in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = apply(&delta, &mut [0; 64]);
        }

        #[test]
        fn a_number_is_read_back(number: u64) {
            let mut out = Vec::new();
            put_number(&mut out, number);
            prop_assert_eq!(take_number(&mut out.as_slice()), Some(number));
        }
    }

    #[test]
    fn pages_that_are_alike_differ_by_little() {
        let (a, mut b) = (vec![7; 4096], vec![7; 4096]);
        b[100] = 1;
        b[102] = 2;
        assert_eq!(between(&a, &b), [100, 3, 6, 0, 5]);
    }
}
