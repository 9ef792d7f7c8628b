//! The newer view of scripts.

use super::schema::{may, named, one_of};
use super::{About, about};
use crate::call::DIRECTIONS;
use crate::workers::ORDERS;

pub fn list() -> About {
    about("List Workers with their addresses")
        .query([may("order_by", one_of(&ORDERS)), may("order", one_of(&DIRECTIONS))])
        .gives_pages_of(named("Worker"))
}

pub fn get() -> About {
    about("Get a Worker with its address").gives(named("Worker"))
}

pub use super::scripts::delete;
