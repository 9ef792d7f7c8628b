//! Who calls whom: what has to start anew when that changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value as Json;
use skep_catalog::Deployed;
use skep_fleet::Exposed;

use super::{Runner, is_of, lock, variant};
use crate::dispatch::namespaces_of;
use crate::serve::links::links_of;

impl Runner {
    /// Notes whom the versions of `script` call. Returns the dispatch namespaces that have an outbound worker now
    /// and had none before, or the other way round.
    pub(super) fn relink(&self, script: &str) -> Result<BTreeSet<String>, String> {
        let mut found = BTreeMap::new();
        let mut outbounds = Vec::new();
        for (n, (version, _)) in self.active(script)?.unwrap_or_default().iter().enumerate() {
            let name = if n == 0 { script.to_owned() } else { variant(script, &version.id) };
            found.insert(name.clone(), self.links_of(script, &name, &version.content.bindings));
            let named = namespaces_of(&version.content.bindings);
            outbounds.extend(named.filter_map(|(_, id, outbound)| Some((id.to_owned(), outbound?.worker))));
        }
        let running: BTreeSet<String> = lock(&self.running).keys().cloned().collect();
        let mut links = lock(&self.links);
        // Versions that run because somebody addressed them go on calling.
        links.retain(|name, _| !is_of(script, name) || (name != script && running.contains(name)));
        links.extend(found.into_iter().filter(|(_, links)| !links.is_empty()));
        drop(links);
        let with_outbound = |all: &BTreeMap<String, Vec<(String, String)>>| -> BTreeSet<String> {
            all.values().flatten().map(|(namespace, _)| namespace.clone()).collect()
        };
        let mut all = lock(&self.outbounds);
        let before = with_outbound(&all);
        match outbounds.is_empty() {
            true => drop(all.remove(script)),
            false => drop(all.insert(script.to_owned(), outbounds)),
        }
        Ok(&before ^ &with_outbound(&all))
    }

    /// Notes whom a script calls that nothing is known of yet: at the start.
    pub(super) fn link(&self, deployed: &Deployed) {
        let script = &deployed.script;
        for (n, (id, _, bindings)) in deployed.versions.iter().enumerate() {
            let name = if n == 0 { script.clone() } else { variant(script, id) };
            let links = self.links_of(script, &name, bindings);
            if !links.is_empty() {
                lock(&self.links).insert(name, links);
            }
            let named = namespaces_of(bindings);
            let outbounds = named.filter_map(|(_, id, outbound)| Some((id.to_owned(), outbound?.worker)));
            let outbounds: Vec<_> = outbounds.collect();
            if !outbounds.is_empty() {
                lock(&self.outbounds).entry(script.clone()).or_default().extend(outbounds);
            }
        }
    }

    /// Whom a version calls, as things are now.
    pub(super) fn links_of(&self, script: &str, name: &str, bindings: &[Json]) -> Vec<(String, Exposed)> {
        let home = |script: &str, class: &str| {
            let home = self.tenant.stores.catalog.home_of(script, class);
            home.ok().flatten().map(|(script, class, _)| (script, class))
        };
        links_of(script, name, bindings, &home)
    }

    /// Starts anew those that `caller`, a script or one version of it, calls and that do not let themselves be
    /// called like that yet.
    pub(super) async fn expose_callees(self: &Arc<Self>, caller: &str) -> Result<(), String> {
        let callees: BTreeSet<String> = {
            let links = lock(&self.links);
            let own = links.iter().filter(|(name, _)| is_of(caller, name));
            own.flat_map(|(_, links)| links).map(|(callee, _)| callee.clone()).collect()
        };
        for callee in callees.iter().filter(|callee| *callee != caller) {
            if self.lacks(callee) && self.is_awake(callee) {
                self.start(callee).await?;
            }
        }
        Ok(())
    }
}
