//! Source maps for DevTools: the code says where its map is, which is here.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use sha2::{Digest, Sha256};

/// What esbuild ends a module with that has a map.
const COMMENT: &[u8] = b"\n//# sourceMappingURL=";
/// DevTools may ask for the map of code that was replaced a moment ago.
const KEPT: usize = 4;

/// The maps of what the debugged worker has run, at addresses that nobody can guess who has not seen the code.
pub struct Sources {
    /// Where DevTools find this server.
    base: String,
    /// By path.
    maps: Mutex<VecDeque<(String, Bytes)>>,
}

impl Sources {
    /// Without any; `port` is the inspector's.
    pub fn new(port: u16) -> Self {
        Self { base: format!("http://127.0.0.1:{port}"), maps: Mutex::default() }
    }

    /// `code` with the address of its map in the place of the file's name.
    pub fn lead(&self, code: &Bytes, map: &Bytes) -> Bytes {
        let Some(at) = code.windows(COMMENT.len()).rposition(|part| part == COMMENT) else {
            return code.clone();
        };
        let path = format!("/source-maps/{}.map", hex::encode(Sha256::digest(map)));
        let mut maps = self.maps.lock().unwrap_or_else(PoisonError::into_inner);
        maps.retain(|(other, _)| *other != path);
        maps.truncate(KEPT - 1);
        let comment = format!("{}{path}\n", self.base);
        maps.push_front((path, map.clone()));
        [&code[..at + COMMENT.len()], comment.as_bytes()].concat().into()
    }

    /// The map at `path`.
    pub fn find(&self, path: &str) -> Option<Bytes> {
        let maps = self.maps.lock().unwrap_or_else(PoisonError::into_inner);
        maps.iter().find(|(own, _)| own == path).map(|(_, map)| map.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_leads_to_its_map_and_maps_do_not_pile_up() {
        let sources = Sources::new(9229);
        let code =
            Bytes::from_static(b"run(\"//# sourceMappingURL=no\");\n//# sourceMappingURL=index.js.map\n");
        let mut paths = Vec::new();
        for n in 0..10 {
            let map = Bytes::from(format!("{{\"n\":{n}}}"));
            let led = String::from_utf8(sources.lead(&code, &map).to_vec()).unwrap();
            let path = led.strip_prefix(
                "run(\"//# sourceMappingURL=no\");\n//# sourceMappingURL=http://127.0.0.1:9229",
            );
            let path = path.unwrap().trim_end().to_owned();
            assert_eq!(sources.find(&path), Some(map));
            paths.push(path);
        }
        assert_eq!(paths.iter().filter(|path| sources.find(path).is_some()).count(), KEPT);
        assert_eq!(sources.find("/json"), None);
    }

    #[test]
    fn code_without_a_map_stays_as_it_is() {
        let sources = Sources::new(9229);
        let code = Bytes::from_static(b"run();\n");
        assert_eq!(sources.lead(&code, &Bytes::from_static(b"{}")), code);
    }
}
