//! Whether a browser that has started does what it is for: code of a page runs.

use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, Method};
use http_body_util::BodyExt;
use serde_json::{Value as Json, json};
use tungstenite::Message;

use crate::devtools::send;
use crate::error::BrowserError;
use crate::process::Devtools;

/// Has the browser's first page compute something.
pub(crate) async fn run(devtools: &Devtools) -> Result<(), BrowserError> {
    let failed = |error: &dyn std::fmt::Display| BrowserError::Unreachable(error.to_string());
    let listed = send(devtools, Method::GET, "/json/list", &HeaderMap::new()).await?;
    let listed = listed.into_body().collect().await.map_err(|e| failed(&e))?.to_bytes();
    let listed: Json = serde_json::from_slice(&listed).map_err(|e| failed(&e))?;
    let page = listed[0]["id"].as_str().ok_or_else(|| failed(&"it has no page"))?;
    let stream = devtools.connect().await.map_err(|e| failed(&e))?;
    let url = format!("ws://{}/devtools/page/{page}", devtools.host());
    let opened = tokio_tungstenite::client_async(url, stream).await;
    let (mut page, _) = opened.map_err(|e| failed(&e))?;
    let asked = json!({ "id": 1, "method": "Runtime.evaluate", "params": { "expression": "6 * 7" } });
    page.send(Message::text(asked.to_string())).await.map_err(|e| failed(&e))?;
    while let Some(Ok(message)) = page.next().await {
        let Message::Text(text) = message else { continue };
        let said: Json = serde_json::from_str(&text).map_err(|e| failed(&e))?;
        if said["id"] == 1 {
            return match said["result"]["result"]["value"] == 42 {
                true => Ok(()),
                false => Err(failed(&format!("code of a page did not run: {text}"))),
            };
        }
    }
    Err(failed(&"it ended"))
}
