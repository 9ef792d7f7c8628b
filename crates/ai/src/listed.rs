//! The models that there are.

use serde_json::{Value as Json, json};

use crate::models::Models;
use crate::names::Known;

/// The models of the file and of the server, as `env.AI.models()` lists them.
pub(crate) fn listed(models: &Models, body: &[u8], query: &str) -> Vec<Json> {
    let given: Json = serde_json::from_slice(body).unwrap_or_default();
    let theirs = given["data"].as_array().into_iter().flatten().filter_map(|model| model["id"].as_str());
    let mut all: Vec<&str> = models.named().collect();
    let own = all.len();
    all.extend(theirs.filter(|name| !models.named().any(|own| own == *name)));
    let (mut search, mut task, mut author, mut page, mut per_page) = (None, None, None, 1, usize::MAX);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "search" => search = Some(value.to_lowercase()),
            "task" => task = Some(value.to_lowercase()),
            "author" => author = Some(format!("/{}/", value.to_lowercase())),
            "page" => page = value.parse().unwrap_or(1),
            "per_page" => per_page = value.parse().unwrap_or(usize::MAX),
            _ => {}
        }
    }
    let one = |(n, name): (usize, &str)| {
        let target = models.find(name).ok()?;
        let title = match target.task {
            Known::Task(task) => task.title(),
            // What a server calls a model says nothing of what it does; most generate text.
            Known::Nothing => "Text Generation",
            Known::Foreign(_) => return None,
        };
        let lower = name.to_lowercase();
        let wanted = search.as_ref().is_none_or(|part| lower.contains(part))
            && author.as_ref().is_none_or(|part| lower.contains(part))
            && task.as_ref().is_none_or(|task| *task == title.to_lowercase());
        let source = if n < own { 1 } else { 2 };
        wanted.then(|| {
            json!({
                "id": name, "source": source, "name": name, "description": "", "tags": [], "properties": [],
                "task": { "id": title, "name": title, "description": "" },
            })
        })
    };
    let skipped = page.max(1_usize).saturating_sub(1).saturating_mul(per_page);
    all.into_iter().enumerate().filter_map(one).skip(skipped).take(per_page).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_those_of_the_file_and_of_the_server() {
        let models = Models::parse(r#"{"@cf/baai/bge-m3":"bge","@cf/meta/*":"x","gone":null}"#).unwrap();
        let body = json!({ "data": [{ "id": "qwen3:8b" }, { "id": "gone" }, { "id": "@cf/baai/bge-m3" }] })
            .to_string();
        let names = |query: &str| -> Vec<String> {
            let all = listed(&models, body.as_bytes(), query);
            all.iter()
                .map(|model| {
                    format!("{} {}", model["name"].as_str().unwrap(), model["task"]["name"].as_str().unwrap())
                })
                .collect()
        };
        assert_eq!(names(""), ["@cf/baai/bge-m3 Text Embeddings", "qwen3:8b Text Generation"]);
        assert_eq!(names("task=Text+Generation"), ["qwen3:8b Text Generation"]);
        assert_eq!(names("author=BAAI").len(), 1);
        assert_eq!(names("per_page=1&page=2"), ["qwen3:8b Text Generation"]);
        assert!(names("search=nothing").is_empty());
        assert!(listed(&Models::default(), b"<html>", "").is_empty());
    }
}
