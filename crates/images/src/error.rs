//! What an application hears when an image cannot be made.

use serde::{Deserialize, Serialize};

/// An error with Cloudflare's code, status and text.
/// <https://developers.cloudflare.com/images/reference/errors/>
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("ERROR {code}: {text}")]
pub struct ImagesError {
    /// Cloudflare's number.
    pub code: u16,
    /// The HTTP status that it comes with.
    pub status: u16,
    /// For people.
    pub text: String,
}

impl ImagesError {
    fn new(code: u16, status: u16, text: impl Into<String>) -> Self {
        Self { code, status, text: text.into() }
    }

    /// An option that is not understood, or that Skep does not have.
    pub(crate) fn option(what: impl std::fmt::Display) -> Self {
        Self::new(9401, 400, format!("Missing or invalid resizing parameters: {what}"))
    }

    /// The engine's part of the binding asked something else than we know.
    pub(crate) fn request(what: impl std::fmt::Display) -> Self {
        Self::new(9432, 400, format!("Bad request: {what}"))
    }

    /// More bytes than an image may have.
    pub(crate) fn file_too_large() -> Self {
        Self::new(9402, 413, "Could not fetch the image \u{2014} file too large")
    }

    /// The stream of an image broke off.
    pub(crate) fn broken_stream() -> Self {
        Self::new(9523, 422, "Could not resize the image: error occurred while downloading the image")
    }

    /// Bytes that are no image, or one of a format that is not read.
    pub(crate) fn not_an_image(why: &str) -> Self {
        Self::new(9412, 415, format!("Could not resize the image: {why}"))
    }

    /// A drawing that would have to become pixels.
    pub(crate) fn svg(why: &str) -> Self {
        Self::new(9412, 415, why)
    }

    /// A format that is not written.
    pub(crate) fn output_format(why: &str) -> Self {
        Self::new(9520, 415, why)
    }

    /// Too many pixels.
    pub(crate) fn too_large(why: impl std::fmt::Display) -> Self {
        Self::new(9413, 403, format!("Could not resize the image: {why}"))
    }

    /// An image that is damaged.
    pub(crate) fn decoding(why: impl std::fmt::Display) -> Self {
        Self::new(9516, 422, format!("Could not resize the image: error during decoding: {why}"))
    }

    /// An image that could not be written.
    pub(crate) fn encoding(why: impl std::fmt::Display) -> Self {
        Self::new(9516, 500, format!("Could not resize the image: error during encoding: {why}"))
    }

    /// Too many wait already.
    pub(crate) fn busy() -> Self {
        Self::new(9522, 503, "The service in this colo is too busy")
    }

    /// It took too much time or memory.
    pub(crate) fn too_much() -> Self {
        Self::new(9529, 504, "The image is too large to process or the service is too busy")
    }

    /// Something of ours failed.
    pub(crate) fn internal() -> Self {
        Self::new(9523, 500, "Could not resize the image: internal error while processing the image")
    }
}
