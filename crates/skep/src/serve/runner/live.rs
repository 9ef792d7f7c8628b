//! Scripts as requests find them: their versions, shares and assets.

use std::sync::{Arc, PoisonError};

use skep_assets::Assets;
use skep_catalog::{Kind, Version, split_name};
use skep_edge::{Meter, Site, Traced};
use skep_logs::Observability;

use super::{Runner, variant};
use crate::serve::export;
use crate::serve::version::{config_of, open_assets};

/// A version that takes a share of a script's requests.
pub struct Share {
    /// The version's id.
    pub version: String,
    /// 0 to 100.
    pub percentage: f64,
    /// What it is called in the fleet; `None` if it has no code.
    pub worker: Option<String>,
    /// Its assets.
    pub assets: Option<Arc<Assets>>,
    /// Where to count its requests, with those of the script's other versions.
    pub meter: Arc<Meter>,
    /// Whose spans its requests are, if anybody wants them.
    pub traced: Option<Arc<Traced>>,
}

/// A script as requests find it.
pub struct Live {
    /// The versions that take requests; the first one is the main one.
    pub shares: Vec<Share>,
    /// Whether its own address leads to it.
    pub workers_dev: bool,
    /// Whether its versions have addresses.
    pub previews: bool,
    /// Whether its dispatch namespace lets it see `request.cf`.
    pub trusted: bool,
}

impl Runner {
    /// What requests need to know of the versions.
    pub(super) fn load(&self, script: &str, versions: &[(Version, f64)]) -> Result<Live, String> {
        let row = self.tenant.stores.catalog.script(script).map_err(|e| e.to_string())?;
        let meter = self.around.meters.of(&self.tenant.id, script).requests.clone();
        let settings = row.as_ref().and_then(|row| row.settings.observability.as_ref());
        let observability = Observability::of(settings);
        let mut shares = Vec::new();
        for (n, (version, percentage)) in versions.iter().enumerate() {
            let config = config_of(&self.tenant.id, script, &version.content, &self.around.sealer)?;
            let name = if n == 0 { script.to_owned() } else { variant(script, &version.id) };
            shares.push(Share {
                version: version.id.clone(),
                percentage: *percentage,
                worker: (!version.content.modules.is_empty()).then_some(name),
                assets: open_assets(&self.tenant, script, &version.content, &config)?,
                meter: meter.clone(),
                traced: export::traced(
                    self.around.exporter.as_ref(),
                    &self.tenant.id,
                    script,
                    version,
                    observability,
                ),
            });
        }
        let workers_dev = row.as_ref().and_then(|row| row.workers_dev).unwrap_or(false);
        let previews = row.and_then(|row| row.previews).unwrap_or(workers_dev);
        let trusted = match split_name(script).0 {
            None => true,
            Some(id) => {
                let namespace =
                    self.tenant.stores.catalog.resource(Kind::Dispatch, id).map_err(|e| e.to_string())?;
                namespace.is_some_and(|namespace| namespace.settings["trusted_workers"] == true)
            }
        };
        Ok(Live { shares, workers_dev, previews, trusted })
    }

    /// A deployed script; read from the catalog when it is first asked for.
    pub fn live(&self, script: &str) -> Option<Arc<Live>> {
        if let Some(live) = self.live.read().unwrap_or_else(PoisonError::into_inner).get(script) {
            return Some(live.clone());
        }
        let loaded = self.active(script).and_then(|versions| match versions {
            Some(versions) => self.load(script, &versions).map(Some),
            None => Ok(None),
        });
        match loaded {
            Ok(live) => {
                let live = Arc::new(live?);
                let mut all = self.live.write().unwrap_or_else(PoisonError::into_inner);
                Some(all.entry(script.to_owned()).or_insert(live).clone())
            }
            Err(error) => {
                tracing::error!(script, error, "a script cannot be read from the catalog");
                None
            }
        }
    }

    /// What answers for a share.
    pub fn site(&self, share: &Share) -> Site {
        let worker = share.worker.as_ref().map(|name| self.fleet.worker(name));
        Site {
            worker,
            assets: share.assets.clone(),
            local: None,
            meter: Some(share.meter.clone()),
            traced: share.traced.clone(),
        }
    }

    /// What answers for a version that is addressed by itself.
    pub fn preview(&self, script: &str, prefix: &str) -> Option<Site> {
        let live = self.live(script).filter(|live| live.previews)?;
        if let Some(share) = live.shares.iter().find(|share| share.version.starts_with(prefix)) {
            return Some(self.site(share));
        }
        let catalog = &self.tenant.stores.catalog;
        let row = catalog.script(script).ok()??;
        let version = catalog.version_with_prefix(&row.tag, prefix).ok()??;
        let loaded = self.load(script, &[(version.clone(), 0.0)]).ok()?;
        let mut share = loaded.shares.into_iter().next()?;
        share.worker = share.worker.map(|_| variant(script, &version.id));
        Some(self.site(&share))
    }

    /// A dispatch namespace has other settings.
    pub fn namespace_changed(&self, id: &str) {
        let mut live = self.live.write().unwrap_or_else(PoisonError::into_inner);
        live.retain(|script, _| split_name(script).0 != Some(id));
    }
}
