//! What the scripts of an account cache takes so much of the disk together, however many they are.

use std::path::Path;

use serde_json::json;

use crate::harness::serve::serve_in;

const CACHES: &str = r#"
const kept = { headers: { "cache-control": "max-age=86400" } };
export default {
  async fetch(request) {
    const [, what, key, size] = new URL(request.url).pathname.split("/");
    const url = (n) => "https://a.test/" + n;
    if (what === "fill") {
      for (let n = 0; n < Number(key); n++) await caches.default.put(url(n), new Response(new Uint8Array(Number(size)), kept));
      return new Response("filled");
    }
    return new Response(String((await caches.default.match(url(key)))?.status));
  },
};
"#;

fn size_of(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(about) if about.is_dir() => size_of(&entry.path()),
            Ok(about) => about.len(),
            Err(_) => 0,
        })
        .sum()
}

#[test]
fn scripts_of_an_account_cache_no_more_together_than_it_may() {
    let serve = serve_in(tempfile::tempdir().unwrap(), &["--cache-size", "32"]);
    let metadata = json!({ "main_module": "index.js", "compatibility_date": "2026-07-01", "limits": { "subrequests": 10_000 } });
    let hosts = ["one", "two", "three", "four"].map(|name| {
        assert_eq!(serve.upload(name, &metadata, CACHES).status, 200);
        format!("{name}.main.localhost")
    });
    let folder = serve.dir.path().join("data/accounts");
    let caches = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path().join("cache");
    // Small ones in rows, large ones in files; each script has 1 GiB for itself.
    for (host, path) in
        hosts.iter().zip(["/fill/600/60000", "/fill/40/1000000", "/fill/600/60000", "/fill/40/1000000"])
    {
        assert_eq!(serve.get(host, path).text(), "filled");
        let disk = size_of(&caches);
        // With what each database's log has; they have cached 150 MB.
        assert!(disk < 72 << 20, "{disk} bytes");
    }
    assert_eq!(serve.get(&hosts[0], "/get/0").text(), "undefined", "what was cached first");
    assert_eq!(serve.get(&hosts[3], "/get/39").text(), "200", "what was cached last");
}
