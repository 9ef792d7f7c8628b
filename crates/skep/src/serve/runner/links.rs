//! Who calls whom, and who listens: what has to start anew when that changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use skep_api::TailEvents;

use super::{Runner, is_of, lock, variant};
use crate::serve::dispatch::namespaces_of;
use crate::serve::links::links_of;

impl Runner {
    /// The events of a script from now on. Its cells are started anew if they do not report them yet.
    pub async fn tail(self: &Arc<Self>, script: &str) -> Result<TailEvents, String> {
        let (events, is_new) = self.tails.listen(script);
        if is_new {
            self.start_all_anew(script).await?;
        }
        Ok(events)
    }

    /// Lets cells report no more if nobody listens. Those with Durable Objects do so at the next deploy: their
    /// objects would be started anew for it.
    pub(super) async fn untail(self: &Arc<Self>, script: &str) -> Result<(), String> {
        let has_objects =
            !self.tenant.stores.catalog.namespaces(script).map_err(|e| e.to_string())?.is_empty();
        if has_objects || self.tails.is_wanted(script) {
            return Ok(());
        }
        self.start_all_anew(script).await
    }

    async fn start_all_anew(self: &Arc<Self>, script: &str) -> Result<(), String> {
        for name in self.awake().into_iter().filter(|name| is_of(script, name)) {
            self.start_anew(&name).await?;
        }
        Ok(())
    }

    /// Notes whom the versions of `script` call. Returns the dispatch namespaces that have an outbound worker now
    /// and had none before, or the other way round.
    pub(super) fn relink(&self, script: &str) -> Result<BTreeSet<String>, String> {
        let mut found = BTreeMap::new();
        let mut outbounds = Vec::new();
        for (n, (version, _)) in self.active(script)?.unwrap_or_default().iter().enumerate() {
            let name = if n == 0 { script.to_owned() } else { variant(script, &version.id) };
            found.insert(name.clone(), links_of(script, &name, &version.content));
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
