//! The Images binding: what images are, and others made of them.
//!
//! Images come from strangers, and decoders are what attackers like best. So nothing is decoded in Skep's own process: each
//! request is worked on by a process of its own, which gets the bytes through a pipe, answers through another one and ends.
//! Who starts it locks it up; this crate knows what is to be done ([`work`]) and how many work at once ([`Images`]).
//!
//! What is asked is read and checked before ([`operations`]), sizes are computed apart from pixels ([`geometry`]): pure
//! functions. Knows nothing of scripts, configuration, or how a process is confined.
//!
//! Entry points: [`Images::binding`], [`work`].

mod color;
mod decode;
mod draw;
mod effects;
mod encode;
mod error;
mod form;
mod format;
mod geometry;
mod job;
mod names;
mod operations;
mod picture;
mod profile;
mod service;
mod work;
mod worker;

pub use error::ImagesError;
pub use service::Images;
pub use work::work;
pub use worker::Worker;
