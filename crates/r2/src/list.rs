//! Lists of keys. The cost is that of what is listed: a group of keys under a delimiter is jumped over.

use std::ops::ControlFlow;

use rusqlite::Connection;
use serde::Serialize;

use crate::bucket::Bucket;
use crate::limits::MAX_LIST;
use crate::model::Object;
use crate::{R2Error, cursor, rows};

/// The engine takes a list of at most 1 MiB; entries are added while there are fewer bytes than this.
const MAX_BYTES: usize = 800 * 1024;
/// What an entry costs besides its key and metadata: version, etag, checksums, names of fields.
const ENTRY_BYTES: usize = 350;

/// What to list.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// Only keys that start with this.
    pub prefix: String,
    /// Keys that have this after the prefix are listed once, as what they have in common up to its end.
    pub delimiter: Option<String>,
    /// Only keys after this one.
    pub start_after: Option<String>,
    /// Where an earlier list ended.
    pub cursor: Option<String>,
    /// Most entries, 1 to 1000 (1000).
    pub limit: Option<i64>,
    /// With HTTP headers.
    pub include_http: bool,
    /// With custom metadata.
    pub include_custom: bool,
}

/// A page of a list. Serializes as the engine's `R2ListResponse`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListOutcome {
    /// By the bytes of their keys.
    pub objects: Vec<Object>,
    /// Whether there are more.
    pub truncated: bool,
    /// Where they start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Groups of keys.
    pub delimited_prefixes: Vec<String>,
}

impl Bucket {
    /// A page of keys. It may be shorter than its limit and yet not the last: see `truncated`.
    pub fn list(&self, options: &ListOptions) -> Result<ListOutcome, R2Error> {
        let limit = options.limit.unwrap_or(MAX_LIST.into());
        let limit = usize::try_from(limit).ok().filter(|n| (1..=MAX_LIST as usize).contains(n));
        let mut from = options.prefix.as_bytes().to_vec();
        if let Some(key) = &options.start_after {
            from = from.max(cursor::after_key(key.as_bytes()));
        }
        if let Some(text) = &options.cursor {
            from = from.max(cursor::decode(text)?);
        }
        let mut page = Page {
            options,
            delimiter: options.delimiter.as_deref().filter(|d| !d.is_empty()),
            left: limit.ok_or_else(R2Error::invalid_max_keys)?,
            bytes: 0,
            objects: Vec::new(),
            prefixes: Vec::new(),
        };
        let to = cursor::after_prefix(options.prefix.as_bytes());
        let next = self.core.db.read(|c| page.fill(c, from, &to))?;
        Ok(ListOutcome {
            objects: page.objects,
            truncated: next.is_some(),
            cursor: next.map(|next| cursor::encode(&next)),
            delimited_prefixes: page.prefixes,
        })
    }
}

struct Page<'a> {
    options: &'a ListOptions,
    delimiter: Option<&'a str>,
    left: usize,
    bytes: usize,
    objects: Vec<Object>,
    prefixes: Vec<String>,
}

enum Step {
    Done,
    Jump(Vec<u8>),
    Full(Vec<u8>),
}

impl Page<'_> {
    /// Where the next page starts, if there is one.
    fn fill(&mut self, c: &Connection, mut from: Vec<u8>, to: &[u8]) -> Result<Option<Vec<u8>>, R2Error> {
        loop {
            let mut step = Step::Done;
            rows::scan(c, &from, to, |object, meta_len| match self.take(object, meta_len) {
                None => ControlFlow::Continue(()),
                Some(stop) => {
                    step = stop;
                    ControlFlow::Break(())
                }
            })?;
            match step {
                Step::Done => return Ok(None),
                Step::Full(next) => return Ok(Some(next)),
                Step::Jump(next) => from = next,
            }
        }
    }

    fn take(&mut self, mut object: Object, meta_len: usize) -> Option<Step> {
        if self.left == 0 || self.bytes > MAX_BYTES {
            return Some(Step::Full(object.name.into_bytes()));
        }
        self.left -= 1;
        if let Some(group) = self.group(&object.name) {
            let next = cursor::after_prefix(group.as_bytes());
            self.bytes += escaped_len(&group);
            self.prefixes.push(group);
            return Some(Step::Jump(next));
        }
        self.bytes += ENTRY_BYTES + escaped_len(&object.name) + meta_len;
        if !self.options.include_http {
            object.http_fields = None;
        }
        if !self.options.include_custom {
            object.custom_fields = None;
        }
        self.objects.push(object);
        None
    }

    fn group(&self, key: &str) -> Option<String> {
        let delimiter = self.delimiter?;
        let start = self.options.prefix.len();
        let at = key.get(start..)?.find(delimiter)?;
        key.get(..start + at + delimiter.len()).map(str::to_owned)
    }
}

/// Bytes of a text in JSON, at most.
fn escaped_len(text: &str) -> usize {
    let cost = |b: u8| match b {
        0..=0x1f => 6,
        b'"' | b'\\' => 2,
        _ => 1,
    };
    text.bytes().map(cost).sum::<usize>() + 3
}
