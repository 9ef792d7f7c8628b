//! What the process that works on an image is told, and what it answers.
//!
//! Both ways: the length of a JSON text as four bytes (little endian), the text, then bytes. Skep and its worker are one
//! binary, so this needs no versions.

use std::io::{self, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::color::Color;
use crate::error::ImagesError;
use crate::format::Output;
use crate::operations::Step;

/// The longest JSON text.
const MAX_TEXT: u32 = 4 << 20;

/// What is to be done. The images follow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Job {
    /// How long each image is, in bytes.
    pub lengths: Vec<usize>,
    pub task: Task,
}

/// What is done with them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Task {
    /// Tells what the first one is.
    Info,
    /// Makes one of them all.
    Transform(Plan),
}

/// What is made of the images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub steps: Vec<Step>,
    pub format: Output,
    /// 1 to 100.
    pub quality: u8,
    pub background: Option<Color>,
    /// Whether animations stay so.
    pub animated: bool,
}

/// What an image is. The bytes after it are empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Info {
    pub format: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_size: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
}

/// The answer. The image follows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Answer {
    Info(Info),
    Image,
    Failed(ImagesError),
}

/// The JSON text of `value` with its length before it.
pub(crate) fn head(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut head = vec![0; 4];
    serde_json::to_writer(&mut head, value)?;
    let length = u32::try_from(head.len() - 4).ok().filter(|length| *length <= MAX_TEXT);
    let length = length.ok_or_else(|| io::Error::other("the text is too long"))?;
    head[..4].copy_from_slice(&length.to_le_bytes());
    Ok(head)
}

/// Writes `value` and `bytes`.
pub(crate) fn write(to: &mut impl Write, value: &impl Serialize, bytes: &[u8]) -> io::Result<()> {
    to.write_all(&head(value)?)?;
    to.write_all(bytes)?;
    to.flush()
}

/// Reads a value; the bytes after it are still to be read.
pub(crate) fn read<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<T> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    if length > MAX_TEXT {
        return Err(io::Error::other("the text is too long"));
    }
    let mut text = Vec::new();
    from.take(length.into()).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let job = Job { lengths: vec![3], task: Task::Info };
        let mut bytes = Vec::new();
        write(&mut bytes, &job, b"abc").unwrap();
        let mut from = bytes.as_slice();
        assert_eq!(read::<Job>(&mut from).unwrap(), job);
        assert_eq!(from, b"abc");
    }

    #[test]
    fn what_is_cut_off_or_endless_is_an_error() {
        assert!(read::<Job>(&mut &b"\x02\0\0\0{"[..]).is_err());
        assert!(read::<Job>(&mut &b"\xff\xff\xff\xff{}"[..]).is_err());
        assert!(read::<Job>(&mut &b""[..]).is_err());
    }
}
