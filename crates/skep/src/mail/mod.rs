//! Mail: what a worker sends, and what an `email()` handler does with what it gets.
//!
//! While one develops, all of it is checked as under `wrangler dev` and kept in a folder instead of being sent.

mod asked;
mod compose;
mod inbox;
mod kept;
mod message;
mod parts;
mod reply;

use std::path::{Path, PathBuf};

use skep_config::SendEmail;

use crate::terminal::{Style, paint, printable, say};

pub use inbox::{Inbox, MAX_MESSAGE, Wrong};
pub use kept::KeptMail;

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

/// Whether a binding may send this, in Miniflare's words and order.
fn allowed<'a>(binding: &SendEmail, from: &str, mut to: impl Iterator<Item = &'a str>) -> Result<(), String> {
    if binding.allowed_sender_addresses.as_ref().is_some_and(|all| !all.iter().any(|one| one == from)) {
        return Err(format!("email from {from} not allowed"));
    }
    let forbidden = |to: &&str| {
        binding.destination_address.as_ref().is_some_and(|only| only != to)
            || binding
                .allowed_destination_addresses
                .as_ref()
                .is_some_and(|all| !all.iter().any(|one| one == to))
    };
    to.find(forbidden).map_or(Ok(()), |to| Err(format!("email to {to} not allowed")))
}
