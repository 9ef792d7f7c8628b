//! Keyboard shortcuts while `skep dev` runs.

use std::io::{Read, stdin};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::sync::mpsc;

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// `b`: open a browser.
    Browser,
    /// `d`: open DevTools.
    DevTools,
    /// `c`: clear the screen.
    Clear,
    /// `j`: list the background jobs.
    Jobs,
    /// `r`: build the images of containers again.
    Rebuild,
    /// `x` or `q`: end.
    Exit,
}

/// The line that says which keys there are.
pub const HELP: &str =
    "[b] open a browser  [d] open DevTools  [c] clear console  [j] background jobs  [x] to exit";

/// What it says besides where there are containers.
pub const REBUILD: &str = "  [r] rebuild containers";

impl Key {
    fn of(byte: u8) -> Option<Self> {
        match byte.to_ascii_lowercase() {
            b'b' => Some(Self::Browser),
            b'd' => Some(Self::DevTools),
            b'c' => Some(Self::Clear),
            b'j' => Some(Self::Jobs),
            b'r' => Some(Self::Rebuild),
            b'x' | b'q' => Some(Self::Exit),
            _ => None,
        }
    }
}

/// Reads keys one by one while it lives; the terminal is as it was afterwards.
#[derive(Debug)]
pub struct Keyboard {
    before: Termios,
}

impl Keyboard {
    /// Starts to read; `None` if standard input is no terminal.
    pub fn open() -> Option<(Self, mpsc::UnboundedReceiver<Key>)> {
        let before = tcgetattr(stdin()).ok()?;
        let mut raw = before.clone();
        raw.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
        tcsetattr(stdin(), OptionalActions::Now, &raw).ok()?;
        let (keys, receiver) = mpsc::unbounded_channel();
        // Detached: it sits in `read` until the process ends.
        std::thread::Builder::new()
            .name("keyboard".into())
            .spawn(move || {
                let mut byte = [0];
                while matches!(stdin().read(&mut byte), Ok(1)) {
                    if let Some(key) = Key::of(byte[0])
                        && keys.send(key).is_err()
                    {
                        return;
                    }
                }
            })
            .ok()?;
        Some((Self { before }, receiver))
    }
}

impl Drop for Keyboard {
    fn drop(&mut self) {
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.before);
    }
}
