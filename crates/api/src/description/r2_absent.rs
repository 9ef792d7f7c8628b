//! What buckets have on Cloudflare and not here.

use super::r2::place;
use super::schema::{flag, must, object};
use super::{About, about};

fn here(summary: &'static str) -> About {
    about(summary).headers([place()])
}

pub fn disabled() -> About {
    here("Say that a bucket does not have this").gives(object([must("enabled", flag())]))
}

pub fn refused() -> About {
    here("Refused: Skep does not have it").refused()
}
