//! Lists.

use super::*;

#[tokio::test]
async fn lists_go_on_by_cursor_and_count_groups_as_one() {
    let f = fixture();
    for key in ["a/1", "a/2", "a/3/x", "b", "c/1", "c/2", "d", "é/1"] {
        f.put(key, b"x").await;
    }
    let list = async |options: Value| {
        let mut call = options;
        call["method"] = "list".into();
        let (page, _) = f.read(call).await?;
        let keys: Vec<String> =
            page["objects"].as_array().unwrap().iter().map(|o| o["name"].as_str().unwrap().into()).collect();
        let groups: Vec<String> = serde_json::from_value(page["delimitedPrefixes"].clone()).unwrap();
        Ok::<_, (u64, String)>((keys, groups, page["cursor"].as_str().map(str::to_owned)))
    };
    for limit in 1..9 {
        let (mut keys, mut groups, mut cursor) = (vec![], vec![], None);
        loop {
            let mut call = json!({"limit": limit, "delimiter": "/", "newRuntime": true});
            if let Some(cursor) = cursor {
                call["cursor"] = Value::String(cursor);
            }
            let (k, g, next) = list(call).await.unwrap();
            assert!(k.len() + g.len() <= limit);
            keys.extend(k);
            groups.extend(g);
            cursor = next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(
            (keys, groups),
            (vec!["b".into(), "d".into()], vec!["a/".into(), "c/".into(), "é/".into()])
        );
    }
    let (keys, groups, _) =
        list(json!({"prefix": "a/", "delimiter": "/", "startAfter": "a/1"})).await.unwrap();
    assert_eq!((keys, groups), (vec!["a/2".into()], vec!["a/3/".into()]));
    assert_eq!(code(list(json!({"limit": 0})).await), 10022);
    assert_eq!(code(list(json!({"limit": 1001})).await), 10022);
    assert_eq!(code(list(json!({"cursor": "*"})).await), 10029);
}

#[tokio::test]
async fn a_list_has_the_metadata_that_it_was_asked_for_and_stays_under_a_mebibyte() {
    let f = fixture();
    let field = json!([{"k": "m", "v": "\u{1}".repeat(8000)}]);
    for n in 0..40 {
        let put = json!({"method": "put", "object": format!("{n:03}"), "customFields": field, "httpFields": {"contentType": "a/b"}});
        f.write(put, b"").await.unwrap();
    }
    let (page, _) = f.read(json!({"method": "list", "include": [1], "newRuntime": true})).await.unwrap();
    assert!(page.to_string().len() < MIB);
    assert_eq!(page["truncated"], true);
    assert_eq!(page["objects"][0]["customFields"], field);
    assert!(page["objects"][0].get("httpFields").is_none());
    let (page, _) = f.read(json!({"method": "list", "newRuntime": true})).await.unwrap();
    assert!(page["objects"][0].get("customFields").is_none());
}

#[tokio::test]
async fn a_list_jumps_over_the_keys_of_a_group() {
    let f = fixture();
    f.put("template", b"").await;
    let fill = |t: &rusqlite::Transaction<'_>| {
        let object = crate::rows::head(t, "template")?.unwrap();
        for n in 0..30_000 {
            let object = crate::Object { name: format!("g{:02}/{n:05}", n / 3000), ..object.clone() };
            let content = crate::rows::Content::One(crate::rows::Place::Inline(Bytes::new()));
            crate::rows::insert(t, &object, &content)?;
        }
        Ok(())
    };
    f.bucket.core.db.write(fill).await.unwrap();
    let timed = |delimiter: Option<&str>| {
        let options = crate::ListOptions { delimiter: delimiter.map(str::to_owned), ..Default::default() };
        let started = std::time::Instant::now();
        (f.bucket.list(&options).unwrap(), started.elapsed())
    };
    let (thousand, whole) = timed(None);
    assert_eq!(thousand.objects.len(), 1000);
    let best = (0..5).map(|_| timed(Some("/"))).min_by_key(|(_, time)| *time).unwrap();
    let (groups, grouped) = best;
    assert_eq!((groups.objects.len(), groups.delimited_prefixes.len(), groups.truncated), (1, 10, false));
    // Eleven seeks against a thousand rows; walking the groups would be thirty times those rows.
    assert!(grouped < whole, "{grouped:?} against {whole:?}");
}
