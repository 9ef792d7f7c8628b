//! What can go wrong with a call, and how it is told.

use std::fmt;

use http::{Method, StatusCode};

use crate::http::TransportError;

/// One of the errors in an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiMessage {
    /// Cloudflare's number for it.
    pub code: u64,
    /// Its text.
    pub message: String,
    /// Where it is explained.
    pub documentation: Option<String>,
    /// What it came from.
    pub causes: Vec<ApiMessage>,
}

/// Why a call did not do what it should.
#[derive(Debug)]
pub struct ApiError {
    /// The call.
    pub method: Method,
    /// Its path below the API's base.
    pub path: String,
    /// How often it was tried.
    pub attempts: u32,
    /// What happened to the last attempt.
    pub kind: ApiErrorKind,
}

/// Kinds of failures.
#[derive(Debug)]
pub enum ApiErrorKind {
    /// The server said no.
    Refused {
        /// HTTP's word for it.
        status: StatusCode,
        /// Why.
        errors: Vec<ApiMessage>,
        /// The request's id on Cloudflare's side.
        ray: Option<String>,
    },
    /// What came back is not the API's form.
    Malformed {
        /// HTTP's status.
        status: StatusCode,
        /// How it begins.
        excerpt: String,
    },
    /// No answer.
    Transport(TransportError),
}

impl ApiError {
    /// Whether the server refused with this code.
    pub fn has_code(&self, code: u64) -> bool {
        self.messages().iter().any(|message| message.code == code)
    }

    /// Whether the server says that something is not there, by one of `codes` or by its status.
    pub fn is_missing(&self, codes: &[u64]) -> bool {
        match &self.kind {
            ApiErrorKind::Refused { status, errors, .. } => {
                *status == StatusCode::NOT_FOUND || errors.iter().any(|error| codes.contains(&error.code))
            }
            _ => false,
        }
    }

    /// Whether the server says that something is there already.
    pub fn is_existing(&self) -> bool {
        self.messages().iter().any(|error| {
            let text = error.message.to_lowercase();
            ["already exists", "already taken", "duplicate_name"].iter().any(|said| text.contains(said))
        })
    }

    /// What the server said.
    pub fn messages(&self) -> &[ApiMessage] {
        match &self.kind {
            ApiErrorKind::Refused { errors, .. } => errors,
            _ => &[],
        }
    }
}

impl std::error::Error for ApiError {}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} failed", self.method, self.path)?;
        match &self.kind {
            ApiErrorKind::Refused { status, errors, ray } => {
                write!(f, " with HTTP {}", status.as_u16())?;
                errors.iter().try_for_each(|error| write_message(f, error, 1))?;
                ray.iter().try_for_each(|ray| write!(f, "\n  Ray ID: {ray}"))?;
            }
            ApiErrorKind::Malformed { status, excerpt } => {
                write!(
                    f,
                    " with HTTP {}: the answer is not one of Cloudflare's API: {excerpt}",
                    status.as_u16()
                )?;
            }
            ApiErrorKind::Transport(error) => write!(f, ": {error}")?,
        }
        match self.attempts {
            0 | 1 => Ok(()),
            attempts => write!(f, "\n  tried {attempts} times"),
        }
    }
}

fn write_message(f: &mut fmt::Formatter<'_>, message: &ApiMessage, depth: usize) -> fmt::Result {
    let indent = "  ".repeat(depth);
    let text = message.message.trim_end().replace('\n', &format!("\n{indent}"));
    write!(f, "\n{indent}{text} [code: {}]", message.code)?;
    if let Some(url) = &message.documentation {
        write!(f, "\n{indent}See {url}")?;
    }
    message.causes.iter().try_for_each(|cause| write_message(f, cause, depth + 1))
}
