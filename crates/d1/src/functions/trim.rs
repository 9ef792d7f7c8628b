//! `trim()`, `ltrim()` and `rtrim()` with characters of one's own.
//!
//! A character is a byte below 0xC0, or one from there on with all bytes that continue it, however many: texts need not be UTF-8. Where several fit, SQLite takes
//! the one that was named first, which matters for what is left of such a text.

use super::find::goes_on;

/// Which ends of a text are trimmed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub left: bool,
    pub right: bool,
}

/// No character.
const NONE: u32 = u32::MAX;

/// Characters, and which place each was named at first.
struct Characters<'a> {
    /// Those of one byte.
    bytes: [u32; 256],
    /// The others, sorted.
    long: Vec<(&'a [u8], u32)>,
}

impl<'a> Characters<'a> {
    /// Those of a text, up to its first NUL.
    fn of(text: &'a [u8]) -> Self {
        let mut all = Self { bytes: [NONE; 256], long: Vec::new() };
        let mut rest = text;
        let mut place = 0;
        while let Some(first) = rest.first().filter(|byte| **byte != 0) {
            let (character, after) = rest.split_at(length(rest));
            if character.len() > 1 {
                all.long.push((character, place));
            } else if let Some(known) = all.bytes.get_mut(usize::from(*first)) {
                *known = place.min(*known);
            }
            rest = after;
            place += 1;
        }
        all.long.sort_unstable();
        all.long.dedup_by(|next, first| next.0 == first.0);
        all
    }

    fn byte(&self, byte: u8) -> u32 {
        self.bytes.get(usize::from(byte)).copied().unwrap_or(NONE)
    }

    /// The characters of several bytes that `run`, one from its first byte to its last, begins with: lengths and places, the shortest first.
    fn beginning(&self, run: &[u8]) -> Vec<(usize, u32)> {
        let mut found = Vec::new();
        let mut left = self.long.as_slice();
        for (depth, byte) in run.iter().enumerate() {
            let at = |(character, _): &(&[u8], u32)| character.get(depth).copied();
            let from = left.partition_point(|known| at(known) < Some(*byte));
            let to = left.partition_point(|known| at(known) <= Some(*byte));
            left = left.get(from..to).unwrap_or_default();
            match left.first() {
                None => break,
                Some((character, place)) if character.len() == depth + 1 => found.push((depth + 1, *place)),
                Some(_) => {}
            }
        }
        found
    }
}

/// How long the first character is.
fn length(text: &[u8]) -> usize {
    match text.first() {
        Some(0xc0..) => 1 + text.iter().skip(1).take_while(|byte| goes_on(**byte)).count(),
        _ => 1,
    }
}

/// What is left of a text without `characters` at its ends.
pub(super) fn trim<'a>(text: &'a [u8], characters: &[u8], ends: Ends) -> &'a [u8] {
    let characters = Characters::of(characters);
    let mut text = text;
    if ends.left {
        text = left(text, &characters);
    }
    if ends.right {
        text = right(text, &characters);
    }
    text
}

fn left<'a>(mut text: &'a [u8], characters: &Characters<'_>) -> &'a [u8] {
    while let Some(first) = text.first() {
        let mut best = (characters.byte(*first), 1);
        if *first >= 0xc0 && !characters.long.is_empty() {
            let run = text.get(..length(text)).unwrap_or_default();
            let long = characters.beginning(run).into_iter().map(|(length, place)| (place, length));
            best = long.fold(best, Ord::min);
        }
        let (place, length) = best;
        if place == NONE {
            break;
        }
        text = text.get(length..).unwrap_or_default();
    }
    text
}

fn right<'a>(mut text: &'a [u8], characters: &Characters<'_>) -> &'a [u8] {
    // The character of several bytes that the text ends with: where it begins, and which of its beginnings are to go.
    let mut run: Option<(usize, Vec<(usize, u32)>)> = None;
    while let Some(last) = text.last() {
        let mut best = (characters.byte(*last), 1);
        if goes_on(*last) && !characters.long.is_empty() {
            if run.as_ref().is_none_or(|(start, _)| *start + 1 >= text.len()) {
                run = Some(run_at_the_end(text, characters));
            }
            if let Some((start, beginnings)) = &run {
                let length = text.len() - start;
                if let Ok(at) = beginnings.binary_search_by_key(&length, |(length, _)| *length) {
                    best = beginnings.get(at).map_or(best, |(_, place)| best.min((*place, length)));
                }
            }
        }
        let (place, length) = best;
        if place == NONE {
            break;
        }
        text = text.get(..text.len() - length).unwrap_or_default();
    }
    text
}

/// Where the last character of several bytes begins, and which characters it begins with.
fn run_at_the_end(text: &[u8], characters: &Characters<'_>) -> (usize, Vec<(usize, u32)>) {
    let start = text.iter().rposition(|byte| !goes_on(*byte)).unwrap_or(0);
    let run = text.get(start..).unwrap_or_default();
    let beginnings =
        if run.first().is_some_and(|byte| *byte >= 0xc0) { characters.beginning(run) } else { Vec::new() };
    (start, beginnings)
}
