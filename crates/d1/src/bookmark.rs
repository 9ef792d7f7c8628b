//! Bookmarks: names of states of a database, and how far a session has seen.

use std::sync::Mutex;
use std::sync::PoisonError;

/// A state of a database: so many commits after something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// What commits are counted from: the beginning of a history (in seconds since 1970) or, where none is kept, an
    /// opening of the file (counted in the file itself). A later one is never less.
    pub era: u32,
    /// How many commits since.
    pub commits: u64,
}

/// The bookmarks of one database.
#[derive(Debug)]
pub(crate) struct Bookmarks {
    /// The database's id: another database's bookmarks are none of this one.
    id: String,
    now: Mutex<Place>,
}

impl Bookmarks {
    /// Of a database that is in a state.
    pub(crate) fn new(id: &str, now: Place) -> Self {
        Self { id: id.to_owned(), now: Mutex::new(now) }
    }

    /// Notes a state that is on the disk.
    pub(crate) fn reached(&self, place: Place) {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = place;
    }

    /// Counts a commit.
    pub(crate) fn commit(&self) {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).commits += 1;
    }

    /// The bookmark of everything committed by now.
    pub(crate) fn now(&self) -> String {
        self.of(*self.now.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The bookmark of a state, in Cloudflare's form: of fixed width, so that the client's comparison of texts is a
    /// comparison in time.
    pub(crate) fn of(&self, place: Place) -> String {
        let Place { era, commits } = place;
        let digest = self.digest(place);
        format!("{era:08x}-{:08x}-{:08x}-{digest}", commits >> 32, commits & 0xffff_ffff)
    }

    /// The state that a bookmark names; `None` if it is none of this database.
    pub(crate) fn parse(&self, text: &str) -> Option<Place> {
        let parts: Vec<&str> = text.split('-').collect();
        let [era, high, low, digest] = parts.as_slice() else { return None };
        let number = |text: &str| {
            let hex = text.len() == 8 && text.bytes().all(|b| b.is_ascii_hexdigit());
            hex.then(|| u32::from_str_radix(text, 16).ok()).flatten()
        };
        let commits = u64::from(number(high)?) << 32 | u64::from(number(low)?);
        let place = Place { era: number(era)?, commits };
        (self.digest(place) == *digest).then_some(place)
    }

    fn digest(&self, Place { era, commits }: Place) -> String {
        let mut hash = blake3::Hasher::new();
        hash.update(&era.to_le_bytes()).update(&commits.to_le_bytes()).update(self.id.as_bytes());
        hash.finalize().to_hex()[..32].to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_bookmark_is_the_greater_text() {
        let mut seen = Vec::new();
        for era in [9, 10, 0x1_0000] {
            let bookmarks = Bookmarks::new("db", Place { era, commits: 0 });
            for _ in 0..300 {
                seen.push(bookmarks.now());
                bookmarks.commit();
            }
            bookmarks.reached(Place { era, commits: 1 << 40 });
            seen.push(bookmarks.now());
        }
        assert!(seen.is_sorted());
        assert!(
            seen.iter()
                .all(|b| b.len() == "00000085-0000024c-00004c6d-8e61117bf38d7adb71b934ebbf891683".len())
        );
    }

    #[test]
    fn a_bookmark_is_read_back_by_its_own_database() {
        let place = Place { era: 0x6929_aabb, commits: 0x1_0000_0002 };
        let bookmarks = Bookmarks::new("db", place);
        let text = bookmarks.now();
        assert_eq!(bookmarks.parse(&text), Some(place));
        assert_eq!(Bookmarks::new("other", place).parse(&text), None);
        for wrong in ["", "-", "x-x-x-x", &text[1..], &text.replacen('1', "2", 1), &text.to_uppercase()] {
            assert_eq!(bookmarks.parse(wrong), None, "{wrong}");
        }
    }
}
