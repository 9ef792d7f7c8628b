//! What a version has to do with dispatch namespaces: as a dispatcher, and as a script of one.

use std::sync::{Arc, Weak};

use skep_catalog::{Content, Sealer, split_name};
use skep_fleet::{Binding, CellSpec, Worker};

use super::{Runner, lock};
use crate::dispatch::{Dispatch, Found, Gate, Scripts, namespaces_of};

impl Scripts for Runner {
    fn find(&self, script: &str) -> Option<Found> {
        let live = self.live(script)?;
        let site = self.site(live.shares.first()?);
        Some(Found { site, trusted: live.trusted })
    }

    fn outbound_of(&self, script: &str) -> Option<String> {
        let namespace = split_name(script).0?;
        let outbounds = lock(&self.outbounds);
        outbounds.values().flatten().find(|(id, _)| id == namespace).map(|(_, worker)| worker.clone())
    }

    fn worker(&self, name: &str) -> Option<Arc<Worker>> {
        Some(self.fleet.worker(name))
    }

    fn sealer(&self) -> &Sealer {
        &self.around.sealer
    }

    fn account(&self) -> &str {
        &self.tenant.id
    }
}

impl Runner {
    /// Adds to a version's cell what leads to dispatch namespaces, and from one to its outbound worker.
    pub(super) fn dispatching(self: &Arc<Self>, script: &str, content: &Content, spec: &mut CellSpec) {
        let scripts: Weak<dyn Scripts> = {
            let this: Arc<dyn Scripts> = self.clone();
            Arc::downgrade(&this)
        };
        for (n, (name, namespace, outbound)) in namespaces_of(&content.bindings).enumerate() {
            let service = format!("dispatch{n}");
            let dispatch = Dispatch { scripts: scripts.clone(), namespace: namespace.to_owned(), outbound };
            spec.services.insert(service.clone(), Arc::new(dispatch));
            spec.bindings.insert(name.to_owned(), Binding::Dispatch { service });
        }
        if split_name(script).0.is_none() {
            return;
        }
        spec.dispatched = true;
        if self.outbound_of(script).is_some() {
            let gate = Gate { scripts, script: script.to_owned() };
            spec.services.insert("outbound".into(), Arc::new(gate));
            spec.outbound = Some("outbound".into());
        }
    }
}
