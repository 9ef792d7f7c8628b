//! What a start needs of all scripts, in a few queries instead of some for each.

use rusqlite::params;
use serde::Deserialize;
use serde_json::Value as Json;

use crate::script::{Schedule, Settings, json};
use crate::{Catalog, CatalogError};

/// A script that is deployed, without its code.
#[derive(Clone, Debug, PartialEq)]
pub struct Deployed {
    /// Its name.
    pub script: String,
    /// Its cron triggers.
    pub schedules: Vec<Schedule>,
    /// The versions that take requests: ids, percentages and bindings; the main one first.
    pub versions: Vec<(String, f64, Vec<Json>)>,
}

/// Of a version's content.
#[derive(Deserialize)]
struct Bindings {
    bindings: Vec<Json>,
}

/// Pages are bounded by memory: a thousand scripts have some megabytes of bindings.
const PAGE: u32 = 1000;

const SQL: &str = "WITH page AS MATERIALIZED (
        SELECT tag, name, settings FROM script WHERE name > ?1 AND instr(name, ':') = 0 ORDER BY name LIMIT ?2)
    SELECT page.name, page.settings, version.id, json_extract(pair.value, '$[1]'), version.content FROM page
    LEFT JOIN deployment ON deployment.sequence = (
        SELECT max(latest.sequence) FROM deployment AS latest WHERE latest.script = page.tag)
    LEFT JOIN json_each(deployment.versions) AS pair
    LEFT JOIN version ON version.id = json_extract(pair.value, '$[0]') AND version.script = page.tag
    ORDER BY page.name";

impl Catalog {
    /// Passes on all scripts outside of dispatch namespaces, by name.
    pub fn each_deployed<E: From<CatalogError>>(
        &self,
        mut take: impl FnMut(Deployed) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut after = String::new();
        loop {
            let page = self.deployed_after(&after)?;
            let Some(last) = page.last().map(|deployed| deployed.script.clone()) else { return Ok(()) };
            page.into_iter().try_for_each(&mut take)?;
            after = last;
        }
    }

    fn deployed_after(&self, after: &str) -> Result<Vec<Deployed>, CatalogError> {
        self.db.read(|c| {
            let mut query = c.prepare_cached(SQL)?;
            let mut rows = query.query(params![after, PAGE])?;
            let mut page: Vec<Deployed> = Vec::new();
            while let Some(row) = rows.next()? {
                let script: String = row.get(0)?;
                if page.last().is_none_or(|last| last.script != script) {
                    let Settings { schedules, .. } = json(row, 1)?;
                    page.push(Deployed { script, schedules, versions: Vec::new() });
                }
                let (Some(id), Some(last)) = (row.get::<_, Option<String>>(2)?, page.last_mut()) else {
                    continue;
                };
                let Bindings { bindings } = json(row, 4)?;
                last.versions.push((id, row.get(3)?, bindings));
            }
            page.iter_mut().for_each(|deployed| deployed.versions.sort_by(|a, b| b.1.total_cmp(&a.1)));
            Ok(page)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Content, Deployment, Publish};

    #[tokio::test]
    async fn what_is_deployed_is_seen_script_by_script() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&dir.path().join("c.sqlite")).unwrap();
        let publish = |script: &str, deploy: bool, binding: &str| {
            let bindings = vec![serde_json::json!({ "name": binding })];
            let content = Content { bindings, ..Content::default() };
            catalog.publish(Publish {
                script: script.into(),
                create: true,
                deploy,
                content,
                ..Publish::default()
            })
        };
        let first = publish("a", true, "OLD").await.unwrap();
        let second = publish("a", true, "NEW").await.unwrap();
        publish("b", false, "X").await.unwrap();
        publish("space:c", true, "X").await.unwrap();
        let shares = vec![(first.version.id, 10.0), (second.version.id, 90.0)];
        let now = catalog.active_deployment(&first.script.tag).unwrap().unwrap();
        let both = Deployment { id: "both".into(), versions: shares, ..now };
        catalog.deploy("a", both, Vec::new()).await.unwrap();
        for n in 0..PAGE {
            publish(&format!("many-{n:05}"), true, "M").await.unwrap();
        }
        let mut seen = Vec::new();
        let all = catalog.each_deployed(|deployed| {
            let names = deployed.versions.iter().map(|(_, share, own)| (*share, own[0]["name"].clone()));
            seen.push((deployed.script, names.collect::<Vec<_>>()));
            Ok::<_, CatalogError>(())
        });
        all.unwrap();
        assert_eq!(seen[0], ("a".into(), vec![(90.0, "NEW".into()), (10.0, "OLD".into())]));
        assert_eq!(seen[1], ("b".into(), vec![]), "it has no deployment");
        assert_eq!(seen.len(), 2 + PAGE as usize);
        assert_eq!(seen.last().unwrap(), &("many-00999".into(), vec![(100.0, "M".into())]));
    }
}
