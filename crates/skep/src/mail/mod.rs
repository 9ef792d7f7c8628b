//! Mail: what a worker sends, and what an `email()` handler does with what it gets.
//!
//! While one develops, all of it is checked as under `wrangler dev` and kept in a folder instead of being sent. A node gives
//! what its workers send to its mail relay.

mod allowance;
mod asked;
mod compose;
mod custom;
mod inbox;
mod kept;
mod letter;
mod message;
mod parts;
mod refused;
mod relay;
mod reply;
mod sending;
mod server;

use std::path::{Path, PathBuf};

use skep_config::SendEmail;

use crate::terminal::{Style, paint, printable, say};
use refused::{Code, Refused};

pub use inbox::{Inbox, MAX_MESSAGE, Wrong};
pub use kept::KeptMail;
pub use relay::{Relay, RelayArgs};
pub use sending::SentMail;

/// Where mail is kept.
#[derive(Clone, Debug)]
pub struct Folder(pub PathBuf);

impl Folder {
    /// Keeps a file of the mail `id`, and returns where. Ids of ours are names of files.
    async fn keep(&self, id: &str, ending: &str, content: Vec<u8>) -> Result<String, String> {
        let path = self.0.join(format!("{}{ending}", id.trim_matches(['<', '>'])));
        let failed = |path: &Path, e: std::io::Error| {
            format!("could not store email temporary file: {}: {e}", path.display())
        };
        tokio::fs::create_dir_all(&self.0).await.map_err(|e| failed(&self.0, e))?;
        tokio::fs::write(&path, content).await.map_err(|e| failed(&path, e))?;
        Ok(path.display().to_string())
    }
}

/// Says to people what came of mail of `script`.
fn note(script: &str, heading: &str, text: &str) {
    let name = paint(Style::Dim, &format!("[{script}]"));
    say(&format!("{name} {heading}{}", printable(text)));
}

/// Whom a binding may not send mail from or to.
#[derive(Debug)]
enum NotAllowed {
    Sender(String),
    Recipient(String),
}

impl NotAllowed {
    /// In Miniflare's words.
    fn said(&self) -> String {
        match self {
            Self::Sender(from) => format!("email from {from} not allowed"),
            Self::Recipient(to) => format!("email to {to} not allowed"),
        }
    }

    /// The same with Cloudflare's code.
    fn refused(self) -> Refused {
        let code = match self {
            Self::Sender(_) => Code::SenderNotVerified,
            Self::Recipient(_) => Code::RecipientNotAllowed,
        };
        Refused::new(code, self.said())
    }
}

/// Whether a binding may send this, in Miniflare's order.
fn allowed<'a>(
    binding: &SendEmail,
    from: &str,
    mut to: impl Iterator<Item = &'a str>,
) -> Result<(), NotAllowed> {
    if binding.allowed_sender_addresses.as_ref().is_some_and(|all| !all.iter().any(|one| one == from)) {
        return Err(NotAllowed::Sender(from.to_owned()));
    }
    let forbidden = |to: &&str| {
        binding.destination_address.as_ref().is_some_and(|only| only != to)
            || binding
                .allowed_destination_addresses
                .as_ref()
                .is_some_and(|all| !all.iter().any(|one| one == to))
    };
    to.find(forbidden).map_or(Ok(()), |to| Err(NotAllowed::Recipient(to.to_owned())))
}
