//! Why a node does not send a mail.
//! <https://developers.cloudflare.com/email-service/api/send-emails/workers-api/#error-codes>

use http::{HeaderValue, StatusCode};
use skep_wire::{Response, full, reply};

/// The `code` of the error that an application gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    Validation,
    FieldMissing,
    TooManyRecipients,
    SenderNotVerified,
    RecipientNotAllowed,
    TooLarge,
    Delivery,
    RateLimit,
    DailyLimit,
    Internal,
    HeaderNotAllowed,
    HeaderUseField,
    HeaderValue,
    HeaderValueTooLong,
    HeaderName,
    HeadersTooLarge,
    HeadersTooMany,
}

impl Code {
    /// Cloudflare's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Validation => "E_VALIDATION_ERROR",
            Self::FieldMissing => "E_FIELD_MISSING",
            Self::TooManyRecipients => "E_TOO_MANY_RECIPIENTS",
            Self::SenderNotVerified => "E_SENDER_NOT_VERIFIED",
            Self::RecipientNotAllowed => "E_RECIPIENT_NOT_ALLOWED",
            Self::TooLarge => "E_CONTENT_TOO_LARGE",
            Self::Delivery => "E_DELIVERY_FAILED",
            Self::RateLimit => "E_RATE_LIMIT_EXCEEDED",
            Self::DailyLimit => "E_DAILY_LIMIT_EXCEEDED",
            Self::Internal => "E_INTERNAL_SERVER_ERROR",
            Self::HeaderNotAllowed => "E_HEADER_NOT_ALLOWED",
            Self::HeaderUseField => "E_HEADER_USE_API_FIELD",
            Self::HeaderValue => "E_HEADER_VALUE_INVALID",
            Self::HeaderValueTooLong => "E_HEADER_VALUE_TOO_LONG",
            Self::HeaderName => "E_HEADER_NAME_INVALID",
            Self::HeadersTooLarge => "E_HEADERS_TOO_LARGE",
            Self::HeadersTooMany => "E_HEADERS_TOO_MANY",
        }
    }
}

/// A mail that is not sent: the error's `code`, and its text for the application.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub code: Code,
    pub text: String,
}

impl Refused {
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    /// As `shims/send-email.js` reads it.
    pub fn response(self) -> Response {
        let mut response = reply(StatusCode::BAD_REQUEST, full(self.text));
        response.headers_mut().insert("x-skep-code", HeaderValue::from_static(self.code.name()));
        response
    }
}
