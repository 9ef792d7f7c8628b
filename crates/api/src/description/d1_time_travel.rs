//! D1 databases as they were.

use super::schema::{may, must, object, text};
use super::{About, about};

pub fn bookmark() -> About {
    about("Get the bookmark of a database, of now or of a time")
        .query([may("timestamp", text())])
        .gives(object([must("bookmark", text())]))
}

pub fn restore() -> About {
    let restored =
        object([must("bookmark", text()), must("previous_bookmark", text()), must("message", text())]);
    about("Restore a database to a bookmark or a time")
        .query([may("bookmark", text()), may("timestamp", text())])
        .gives(restored)
}
