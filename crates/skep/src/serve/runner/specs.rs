//! From a version of a script to what the fleet runs of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use skep_api::{Candidate, Examined};
use skep_catalog::{Content, NamedHandlers, Version};
use skep_fleet::{CellSpec, DurableClass, Exposed, Limits, object_keys};

use super::{Runner, lock};
use crate::serve::alarms::next_alarm;
use crate::serve::hyperdrive::Leads;
use crate::serve::mail;
use crate::serve::quota::file_limit;
use crate::serve::stored_secrets;
use crate::serve::version::{bundle_of, config_of, cpu_of, open_assets, subrequests_of};
use crate::serve::workflows::fill;
use crate::stand_ins::Running;
use crate::wiring::{Identity, wire};

impl Runner {
    /// What others call of `name`.
    pub(super) fn needed_of(&self, name: &str) -> BTreeSet<Exposed> {
        let links = lock(&self.links);
        let all = links.values().flatten().filter(|(callee, _)| callee == name);
        all.map(|(_, exposed)| exposed.clone()).collect()
    }

    pub(super) fn spec(
        self: &Arc<Self>,
        script: &str,
        name: &str,
        content: &Content,
        version: Option<&Version>,
    ) -> Result<CellSpec, String> {
        let stores = &self.tenant.stores;
        let mut config = config_of(&self.tenant.id, script, content, &self.around.sealer)?;
        fill(&mut config, &stores.catalog)?;
        stored_secrets::fill(&mut config, &stores.catalog, &self.around.sealer, &self.tenant.id)?;
        if name != script {
            // The objects of a script live in its main version's cell; others call them there.
            name.clone_into(&mut config.name);
            let main = || Some(script.to_owned());
            config
                .durable_objects
                .iter_mut()
                .for_each(|b| b.script_name = b.script_name.take().or_else(main));
            config.workflows.iter_mut().for_each(|b| b.script_name = b.script_name.take().or_else(main));
            config.exported_workflows.clear();
        }
        let bundle = bundle_of(&self.tenant, content)?;
        let assets = open_assets(&self.tenant, script, content, &config)?;
        let (mut scripts, mut absent) = (Running::default(), BTreeSet::new());
        for service in config.services.iter().map(|binding| &binding.service) {
            let is_there = stores.catalog.script(service).map_err(|e| e.to_string())?.is_some();
            if is_there { &mut scripts.scripts } else { &mut absent }.insert(service.clone());
        }
        let identity = version.map(|version| Identity {
            id: version.id.clone(),
            tag: version.annotations.get("workers/tag").cloned().unwrap_or_default(),
            timestamp: humantime::format_rfc3339_millis(
                std::time::UNIX_EPOCH + std::time::Duration::from_millis(version.created_ms.unsigned_abs()),
            )
            .to_string(),
        });
        let mut spec = wire(
            &config,
            &bundle,
            stores,
            &self.around.images,
            assets.as_ref(),
            &scripts,
            identity.as_ref(),
        )?
        .spec;
        // Where objects and Workflows of others are is found when they are called: a class may move, a script come back.
        spec.absent = absent;
        spec.inspector = false;
        if let Some(version) = version {
            self.report(script, version, &mut spec)?;
        }
        let keys: Vec<String> = object_keys(&spec).collect();
        let has_objects = !keys.is_empty();
        if has_objects {
            let objects = spec.object_storage.clone();
            spec.next_alarm = Some(Arc::new(move || next_alarm(&objects, &keys)));
        }
        spec.file_limit = file_limit(&self.tenant.quota);
        spec.egress.clone_from(&self.around.egress);
        spec.limits = Some(Limits {
            memory: self.around.cell_memory,
            objects: if has_objects { self.around.object_room } else { skep_runtime::Bounds::default() },
            cpu: cpu_of(content),
            subrequests: subrequests_of(content),
            after: self.around.wait_until,
            alone: self.around.alone,
        });
        if version.is_some() {
            spec.usage = self.around.meters.of(&self.tenant.id, script).usage.clone();
        }
        self.dispatching(script, content, &mut spec);
        let leads = Leads {
            tenant: &self.tenant,
            sealer: &self.around.sealer,
            hyperdrive: &self.around.hyperdrive,
            password: &self.around.hyperdrive_password,
        };
        leads.add(script, content, &mut spec)?;
        crate::ai::add(&self.around.ai, &format!("{}/{script}", self.tenant.id), &config, &mut spec);
        let browsers = self.around.browsers.as_ref().map(|browsers| browsers.of(&self.tenant.id));
        crate::browser::add(browsers.as_ref(), &config, &mut spec);
        mail::add(&self.tenant.id, script, content, self.around.relay.as_ref(), &mut spec);
        spec.exposed = self.needed_of(name);
        spec.hide_gone();
        Ok(spec)
    }

    /// Starts a version once in a cell that is thrown away.
    pub async fn try_out(self: &Arc<Self>, candidate: &Candidate) -> Result<Examined, String> {
        let wanted = candidate.clone();
        let mut spec = self
            .blocking(move |this| this.spec(&wanted.script, &wanted.script, &wanted.content, None))
            .await?;
        spec.classes = candidate
            .namespaces
            .iter()
            .map(|(name, namespace)| DurableClass {
                name: name.clone(),
                unique_key: namespace.unique_key.clone(),
                sqlite: namespace.sqlite,
            })
            .collect();
        spec.hide_gone();
        let tried = self.fleet.try_out(&spec).await.map_err(|e| e.to_string())?;
        let named = tried.named.into_iter().map(|named| NamedHandlers {
            handlers: match named.is_class && named.handlers.is_empty() {
                true => vec!["class".into()],
                false => named.handlers,
            },
            name: named.name,
        });
        Ok(Examined {
            handlers: tried.handlers,
            named: named.collect(),
            startup_time_ms: tried.took.as_millis() as u64,
        })
    }
}
