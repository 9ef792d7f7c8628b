//! Skep beside its peers. `cargo bench` runs everything and prints a table; see `README.md`.

pub mod load;
pub mod process;
pub mod report;
