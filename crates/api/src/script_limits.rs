//! How large a script may be, and how many variables it may have.
//! <https://developers.cloudflare.com/workers/platform/limits/>

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::StatusCode;
use serde_json::Value as Json;

use crate::aside::aside;
use crate::reply::ApiError;

/// Bytes of a variable or secret at most; of one that is JSON, as text.
const MAX_VARIABLE: usize = 5 << 10;
/// Bytes of all bindings of a script at most, as JSON: Cloudflare's megabyte of metadata.
const MAX_BINDINGS: usize = 1 << 20;
/// Source maps and a form's own lines may come beside a script of the most bytes.
const BESIDE: u64 = 64 << 20;

/// What an operator lets a script have. The defaults are Cloudflare's of the paid plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScriptLimits {
    /// Bytes of all modules, compressed with gzip as one.
    pub compressed: u64,
    /// Bytes of all modules.
    pub uncompressed: u64,
    /// Variables and secrets together.
    pub variables: usize,
}

impl Default for ScriptLimits {
    fn default() -> Self {
        Self { compressed: 10 << 20, uncompressed: 64 << 20, variables: 128 }
    }
}

impl ScriptLimits {
    /// Bytes of an upload's body at most.
    pub(crate) fn upload(&self) -> usize {
        usize::try_from(self.uncompressed.saturating_add(BESIDE)).unwrap_or(usize::MAX)
    }

    /// Refuses modules that are too large together.
    pub(crate) async fn check_size(&self, modules: Vec<Bytes>) -> Result<(), ApiError> {
        let total = modules.iter().map(|bytes| bytes.len() as u64).sum::<u64>();
        if total > self.uncompressed {
            return Err(too_large(self.uncompressed));
        }
        // What fits as it is fits compressed.
        if total <= self.compressed {
            return Ok(());
        }
        let limit = self.compressed;
        match aside(usize::MAX, move || fits(&modules, limit)).await? {
            true => Ok(()),
            false => Err(too_large(limit)),
        }
    }

    /// Refuses more variables than there may be, unless there were as many `before`.
    pub(crate) fn check_count(&self, bindings: &[Json], before: &[Json]) -> Result<(), ApiError> {
        let count = variables(bindings);
        if count <= self.variables || count <= variables(before) {
            return Ok(());
        }
        let text = format!(
            "Too many text bindings, found a total of {count}, they exceed the limit of {}. Please use fewer bindings \
             and try again.",
            self.variables
        );
        Err(ApiError::bad(10055, text))
    }
}

fn too_large(limit: u64) -> ApiError {
    let limit = match limit % (1 << 20) {
        0 => format!("{} MiB", limit >> 20),
        _ => format!("{limit} bytes"),
    };
    let text = format!(
        "Your Worker exceeded the size limit of {limit}. Refer to the Workers documentation \
         (https://developers.cloudflare.com/workers/observability/errors/#errors-on-worker-upload) for more details."
    );
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, 10027, text)
}

fn variables(bindings: &[Json]) -> usize {
    let is_variable = |kind: &str| matches!(kind, "plain_text" | "json" | "secret_text" | "secret_key");
    bindings.iter().filter(|binding| binding["type"].as_str().is_some_and(is_variable)).count()
}

/// Refuses a variable that is too long.
pub(crate) fn check_variable(name: &str, length: usize) -> Result<(), ApiError> {
    if length <= MAX_VARIABLE {
        return Ok(());
    }
    let text = format!(
        "Text binding '{name}' is too large, it must not exceed 5.1 kB. Please use a smaller value and try again."
    );
    Err(ApiError::bad(10054, text))
}

/// Refuses more bindings than are looked up for one script.
pub(crate) fn check_bindings(uploaded: &[Json]) -> Result<(), ApiError> {
    let mut length = 0;
    for binding in uploaded {
        length += binding.to_string().len();
        if length > MAX_BINDINGS {
            return Err(ApiError::bad(10021, format!("The bindings have more than {MAX_BINDINGS} bytes.")));
        }
    }
    Ok(())
}

/// Bytes that are counted and dropped; an error beyond `left`.
struct Counted {
    left: u64,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let left = self.left.checked_sub(bytes.len() as u64);
        self.left = left.ok_or_else(|| std::io::Error::other("more than may be"))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Whether modules have at most `limit` bytes when compressed; no longer looked at than that takes.
fn fits(modules: &[Bytes], limit: u64) -> bool {
    let mut encoder = GzEncoder::new(Counted { left: limit }, Compression::default());
    modules.iter().all(|bytes| encoder.write_all(bytes).is_ok()) && encoder.finish().is_ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Bytes that nothing makes shorter.
    fn noise(length: usize) -> Bytes {
        let mut state = 1_u64;
        let step = |_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        };
        (0..length).map(step).collect()
    }

    #[tokio::test]
    async fn a_script_may_be_so_large_compressed_and_so_large_at_all() {
        let limits = ScriptLimits { compressed: 10_000, uncompressed: 100_000, variables: 1 };
        let code = async |modules: Vec<Bytes>| limits.check_size(modules).await.err().map(|e| e.errors[0].0);
        assert_eq!(code(vec![noise(10_000)]).await, None);
        assert_eq!(
            code(vec![noise(6000), noise(6000).slice(1..)]).await,
            None,
            "the same again takes no room"
        );
        assert_eq!(code(vec![noise(10_000), Bytes::from_static(&[0; 1])]).await, Some(10027));
        assert_eq!(code(vec![Bytes::from_static(&[0; 100_000])]).await, None);
        assert_eq!(
            code(vec![Bytes::from_static(&[0; 50_000]), Bytes::from_static(&[0; 50_001])]).await,
            Some(10027)
        );
    }

    #[test]
    fn the_limit_is_named_as_cloudflare_names_it() {
        let text = too_large(10 << 20).errors[0].1.clone();
        assert!(text.starts_with("Your Worker exceeded the size limit of 10 MiB. Refer to"), "{text}");
    }

    #[test]
    fn variables_and_secrets_count_together_and_what_was_may_stay() {
        let limits = ScriptLimits { variables: 2, ..ScriptLimits::default() };
        let three =
            [json!({ "type": "plain_text" }), json!({ "type": "secret_text" }), json!({ "type": "json" })];
        let two = [three[0].clone(), three[1].clone(), json!({ "type": "kv_namespace" })];
        assert!(limits.check_count(&two, &[]).is_ok());
        assert!(limits.check_count(&three, &three).is_ok());
        let error = limits.check_count(&three, &two).unwrap_err();
        assert_eq!(error.errors[0].0, 10055);
        assert!(error.errors[0].1.contains("found a total of 3, they exceed the limit of 2."));
    }

    #[test]
    fn a_variable_has_five_kilobytes() {
        assert!(check_variable("A", 5120).is_ok());
        assert_eq!(check_variable("A", 5121).unwrap_err().errors[0].0, 10054);
    }

    #[test]
    fn bindings_have_a_megabyte_together() {
        let binding = json!({ "type": "kv_namespace", "name": "x".repeat(1000) });
        assert!(check_bindings(&vec![binding.clone(); 1000]).is_ok());
        assert!(check_bindings(&vec![binding; 1100]).is_err());
    }
}
