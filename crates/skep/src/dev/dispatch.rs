//! Dispatch namespaces in a session: which workers are in one, and what leads there.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, Weak};

use skep_catalog::{Sealer, split_name};
use skep_config::DispatchNamespace;
use skep_edge::Site;
use skep_fleet::{Binding, CellSpec, Exposed, Worker};

use super::project::Project;
use crate::dispatch::{Dispatch, Found, Gate, Outbound, Scripts};
use crate::wiring::Wired;

/// What a session keeps about dispatch namespaces.
pub struct Namespaces {
    sealer: Sealer,
    known: RwLock<Known>,
}

/// Everything by the fleet's names.
#[derive(Default)]
struct Known {
    /// What can be dispatched to.
    scripts: BTreeMap<String, Site>,
    /// All other workers that have code.
    workers: BTreeMap<String, Arc<Worker>>,
    /// The outbound workers of namespaces.
    outbounds: BTreeMap<String, String>,
}

impl Namespaces {
    /// `key` is the file of the key that what a script must not read is sealed with.
    pub fn open(key: &std::path::Path) -> Result<Arc<Self>, String> {
        let sealer = Sealer::open(key).map_err(|e| e.to_string())?;
        Ok(Arc::new(Self { sealer, known: RwLock::default() }))
    }

    /// These are the session's projects now; `worker` is the fleet's of a name.
    pub fn learn(&self, projects: &[Project], worker: impl Fn(&str) -> Arc<Worker>) {
        let mut known = Known::default();
        for project in projects {
            let name = project.config.name.clone();
            let code = project.config.main.is_some().then(|| worker(&name));
            for bound in &project.config.dispatch_namespaces {
                let outbound = bound.outbound.iter().map(|o| (bound.namespace.clone(), o.service.clone()));
                known.outbounds.extend(outbound);
            }
            match project.namespace {
                Some(_) => {
                    let assets = project.assets.clone();
                    let site = Site { worker: code, assets, local: None, meter: None, traced: None };
                    known.scripts.insert(name, site);
                }
                None => known.workers.extend(code.map(|code| (name, code))),
            }
        }
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
    }

    /// Adds to a worker's cell what leads to dispatch namespaces, and from one to its outbound worker.
    pub fn add(self: &Arc<Self>, project: &Project, wired: &mut Wired) {
        let scripts: Weak<dyn Scripts> = {
            let this: Arc<dyn Scripts> = self.clone();
            Arc::downgrade(&this)
        };
        let spec = &mut wired.spec;
        for (n, bound) in project.config.dispatch_namespaces.iter().enumerate() {
            let service = format!("dispatch{n}");
            let DispatchNamespace { binding, namespace, outbound } = bound.clone();
            let outbound = outbound.map(|o| Outbound { worker: o.service, params: o.parameters });
            wired.table.push([
                format!("env.{binding}"),
                "Dispatch namespace".to_owned(),
                self.backing(&namespace),
            ]);
            let dispatch = Dispatch { scripts: scripts.clone(), namespace, outbound };
            spec.services.insert(service.clone(), Arc::new(dispatch));
            spec.bindings.insert(binding, Binding::Dispatch { service });
        }
        if project.namespace.is_none() {
            return;
        }
        spec.dispatched = true;
        if self.outbound_of(&spec.name).is_some() {
            let gate = Gate { scripts, script: spec.name.clone() };
            spec.services.insert("outbound".into(), Arc::new(gate));
            spec.outbound = Some("outbound".into());
        }
    }

    /// The workers of a namespace, for people.
    fn backing(&self, namespace: &str) -> String {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let within = known.scripts.keys().map(|name| split_name(name));
        let labels: Vec<&str> =
            within.filter(|(of, _)| *of == Some(namespace)).map(|(_, label)| label).collect();
        match labels.is_empty() {
            true => format!("{namespace} (empty: add workers with --dispatch-namespace {namespace}=FILE)"),
            false => format!("{namespace}: {}", labels.join(", ")),
        }
    }

    /// Lets the outbound workers among `specs` be called as such.
    pub fn expose(&self, specs: &mut [CellSpec]) {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        for spec in specs.iter_mut().filter(|spec| known.outbounds.values().any(|name| *name == spec.name)) {
            spec.exposed.insert(Exposed::Outbound);
        }
    }
}

impl Scripts for Namespaces {
    fn find(&self, script: &str) -> Option<Found> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        // As on Cloudflare unless the namespace is made a trusted one, which no configuration says.
        Some(Found { site: known.scripts.get(script)?.clone(), trusted: false })
    }

    fn outbound_of(&self, script: &str) -> Option<String> {
        let namespace = split_name(script).0?;
        self.known.read().unwrap_or_else(PoisonError::into_inner).outbounds.get(namespace).cloned()
    }

    fn worker(&self, name: &str) -> Option<Arc<Worker>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).workers.get(name).cloned()
    }

    fn sealer(&self) -> &Sealer {
        &self.sealer
    }

    fn account(&self) -> &str {
        "dev"
    }
}
