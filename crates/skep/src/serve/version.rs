//! From a version in the catalog to what a cell is made of.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value as Json;
use skep_assets::{AssetEntry, Assets};
use skep_bundle::{Bundle, Format, Module, ModuleKind};
use skep_catalog::{Content, Sealer};
use skep_config::{
    AnalyticsDataset, D1Database, DurableObject, KvNamespace, QueueProducer, R2Bucket, RateLimit,
    RunWorkerFirst, ServiceBinding, StoredSecret, VectorizeIndex, WorkerConfig, WorkflowBinding,
    WorkflowExport, WorkflowSettings,
};
use skep_store::BlobId;

use super::tenant::Tenant;
use crate::assets::assets_config;
use crate::dates;

/// The configuration that the bindings of a version stand for; secrets are opened.
pub fn config_of(
    account: &str,
    script: &str,
    content: &Content,
    sealer: &Sealer,
) -> Result<WorkerConfig, String> {
    let mut config = WorkerConfig {
        name: script.to_owned(),
        main: content.modules.first().map(|module| PathBuf::from(&module.name)),
        compatibility_date: Some(dates::supported(content.compatibility_date.as_deref(), &dates::today())),
        compatibility_flags: content.compatibility_flags.clone(),
        ..WorkerConfig::default()
    };
    for binding in &content.bindings {
        let name = binding["name"].as_str().unwrap_or_default().to_owned();
        if let Some(sealed) = binding["sealed"].as_str() {
            let value = sealer
                .open_sealed(sealed, &format!("{account}/{script}/{name}"))
                .map_err(|e| format!("the secret {name}: {e}"))?;
            config.secrets.insert(name, String::from_utf8_lossy(&value).into_owned());
        } else {
            add(&mut config, name, binding)?;
        }
    }
    let exports = content.exports.as_ref().and_then(Json::as_object);
    for (class, export) in exports.into_iter().flatten().filter(|(_, export)| export["type"] == "workflow") {
        if let Some(name) = export["name"].as_str() {
            config.exported_workflows.push(WorkflowExport {
                class_name: class.clone(),
                name: name.to_owned(),
                settings: WorkflowSettings::default(),
            });
        }
    }
    if let Some(assets) = &content.assets {
        config.assets = Some(assets_of(&config, &content.bindings, &assets.config));
    }
    Ok(config)
}

fn add(config: &mut WorkerConfig, name: String, binding: &Json) -> Result<(), String> {
    let text = |key: &str| binding[key].as_str().map(str::to_owned);
    let need = |key: &str| text(key).ok_or_else(|| format!("the binding {name} has no {key}"));
    let number = |key: &str| binding[key].as_u64().and_then(|n| u32::try_from(n).ok());
    match binding["type"].as_str().unwrap_or_default() {
        "plain_text" => {
            config.vars.insert(name.clone(), Json::String(need("text")?));
        }
        "json" => {
            // A string in quotes is JSON too; as a plain variable it would be text, which is the same value.
            config.vars.insert(name.clone(), binding["json"].clone());
        }
        "kv_namespace" => {
            config.kv_namespaces.push(KvNamespace { binding: name.clone(), id: need("namespace_id")? });
        }
        "r2_bucket" => {
            let (binding, bucket_name) = (name.clone(), need("bucket_name")?);
            config.r2_buckets.push(R2Bucket { binding, bucket_name, s3_credentials: None });
        }
        "d1" => config.d1_databases.push(D1Database {
            binding: name.clone(),
            database_id: need("database_id")?,
            database_name: None,
            migrations_dir: PathBuf::new(),
            migrations_pattern: String::new(),
            migrations_table: String::new(),
        }),
        "queue" => config.queue_producers.push(QueueProducer {
            binding: name.clone(),
            queue: need("queue_name")?,
            delivery_delay: number("delivery_delay"),
        }),
        "durable_object_namespace" => config.durable_objects.push(DurableObject {
            name: name.clone(),
            class_name: need("class_name")?,
            script_name: text("script_name"),
        }),
        "service" => config.services.push(ServiceBinding {
            binding: name.clone(),
            service: need("service")?,
            entrypoint: text("entrypoint"),
            props: Some(binding["props"].clone()).filter(|props| !props.is_null()),
        }),
        "workflow" => config.workflows.push(WorkflowBinding {
            binding: name.clone(),
            name: need("workflow_name")?,
            class_name: need("class_name")?,
            script_name: text("script_name"),
            settings: WorkflowSettings::default(),
        }),
        "analytics_engine" => config
            .analytics_engine_datasets
            .push(AnalyticsDataset { binding: name.clone(), dataset: need("dataset")? }),
        "vectorize" => config.vectorize.push(VectorizeIndex {
            binding: name.clone(),
            index_name: need("index_name")?,
            dimensions: None,
            metric: None,
            is_made: true,
        }),
        "ratelimit" => config.ratelimits.push(rate_limit(&name, binding)?),
        "secrets_store_secret" => config.stored_secrets.push(StoredSecret {
            binding: name.clone(),
            store_id: need("store_id")?,
            secret_name: need("secret_name")?,
            value: None,
        }),
        "worker_loader" => config.worker_loaders.push(name),
        "images" => config.images = Some(name),
        "ai" => config.ai.push(name),
        "browser" => config.browsers.push(name),
        "version_metadata" => config.version_metadata = Some(name),
        // The content of the last three is among the modules; three are added elsewhere.
        "assets" | "dispatch_namespace" | "hyperdrive" | "send_email" | "wasm_module" | "text_blob"
        | "data_blob" => {}
        other => return Err(format!("the binding {name} of type {other} is not supported")),
    }
    Ok(())
}

fn rate_limit(name: &str, binding: &Json) -> Result<RateLimit, String> {
    let simple = &binding["simple"];
    let number = |key: &str| simple[key].as_f64();
    let whole = |key: &str| simple[key].as_u64().and_then(|n| u32::try_from(n).ok());
    let namespace = &binding["namespace_id"];
    Ok(RateLimit {
        name: name.to_owned(),
        namespace_id: namespace.as_str().map_or_else(|| namespace.to_string(), str::to_owned),
        limit: whole("limit").ok_or_else(|| format!("the rate limit {name} has no limit"))?,
        period: number("period").ok_or_else(|| format!("the rate limit {name} has no period"))?,
        burst: whole("burst"),
        burst_window: number("burstWindow"),
        bucket_size: number("bucketSize"),
    })
}

fn assets_of(config: &WorkerConfig, bindings: &[Json], options: &Json) -> skep_config::Assets {
    let text = |key: &str| options[key].as_str().map(str::to_owned);
    let paths = |list: &Vec<Json>| list.iter().filter_map(|p| p.as_str().map(str::to_owned)).collect();
    let first = match &options["run_worker_first"] {
        Json::Array(list) => RunWorkerFirst::Paths(paths(list)),
        // `serve_directly` is the older name of its opposite.
        Json::Bool(always) => RunWorkerFirst::Always(*always),
        _ => RunWorkerFirst::Always(options["serve_directly"] == false),
    };
    let binding = bindings.iter().find(|b| b["type"] == "assets");
    skep_config::Assets {
        directory: config.dir.clone(),
        binding: binding.and_then(|b| b["name"].as_str()).map(str::to_owned),
        html_handling: text("html_handling"),
        not_found_handling: text("not_found_handling"),
        run_worker_first: first,
    }
}

fn read(tenant: &Tenant, key: &str) -> Result<Vec<u8>, String> {
    let lost = || format!("the content {key} is lost");
    let stored = tenant.stores.catalog.content(key).map_err(|e| e.to_string())?.ok_or_else(lost)?;
    let id = BlobId::parse(&stored.blob).ok_or_else(lost)?;
    std::fs::read(tenant.blobs.path(&id)).map_err(|e| format!("cannot read the content {key}: {e}"))
}

/// The code of a version. Blocking: reads all modules.
pub fn bundle_of(tenant: &Tenant, content: &Content) -> Result<Bundle, String> {
    let mut modules = Vec::new();
    for module in &content.modules {
        let kind = match module.content_type.as_str() {
            "application/javascript+module" | "text/javascript+module" => ModuleKind::EsModule,
            "application/javascript" | "text/javascript" => ModuleKind::CommonJs,
            "application/wasm" => ModuleKind::Wasm,
            "text/plain" => ModuleKind::Text,
            _ => ModuleKind::Data,
        };
        let content = read(tenant, &module.key)?.into();
        modules.push(Module { name: module.name.clone(), specifier: None, kind, content });
    }
    Ok(Bundle {
        main: content.modules.first().map(|m| m.name.clone()).unwrap_or_default(),
        modules,
        source_map: None,
        format: if content.service_worker { Format::ServiceWorker } else { Format::Modules },
        inputs: Vec::new(),
        exports: Vec::new(),
        warnings: Vec::new(),
    })
}

/// Cloudflare's default and the most that it lets a script ask for.
const CPU_DEFAULT: Duration = Duration::from_secs(30);
const CPU_MOST: Duration = Duration::from_secs(300);

/// The CPU time that an invocation may use.
pub fn cpu_of(content: &Content) -> Duration {
    let asked = content.limits.as_ref().and_then(|limits| limits["cpu_ms"].as_u64());
    asked.map_or(CPU_DEFAULT, Duration::from_millis).min(CPU_MOST)
}

/// Cloudflare's default, and the most that it lets a script ask for.
/// <https://developers.cloudflare.com/workers/platform/limits/#subrequests>
const SUBREQUESTS_DEFAULT: u32 = 10_000;
const SUBREQUESTS_MOST: u32 = 10_000_000;

/// The requests to others that an invocation may make.
pub fn subrequests_of(content: &Content) -> u32 {
    let asked = content.limits.as_ref().and_then(|limits| limits["subrequests"].as_u64());
    let asked = asked.map_or(SUBREQUESTS_DEFAULT, |most| u32::try_from(most).unwrap_or(u32::MAX));
    asked.min(SUBREQUESTS_MOST)
}

#[derive(Deserialize)]
struct File {
    hash: String,
    size: u64,
}

/// The assets of a version, if it has any. Blocking: reads the manifest.
pub fn open_assets(
    tenant: &Tenant,
    script: &str,
    content: &Content,
    config: &WorkerConfig,
) -> Result<Option<Arc<Assets>>, String> {
    let Some(assets) = &content.assets else { return Ok(None) };
    let manifest: std::collections::BTreeMap<String, File> =
        serde_json::from_slice(&read(tenant, &assets.manifest)?).map_err(|e| e.to_string())?;
    let mut entries = Vec::with_capacity(manifest.len());
    for (path, file) in manifest {
        let content = |key: &str| tenant.stores.catalog.content(key).map_err(|e| e.to_string());
        // A hash that a client made up means something in its script only (`api/assets.rs`).
        let claimed = content(&format!("u:{script}:{}", file.hash))?;
        let made_up = claimed.is_some();
        let stored =
            claimed.map_or_else(|| content(&format!("a:{}", file.hash)), |stored| Ok(Some(stored)))?;
        let stored = stored.ok_or_else(|| format!("the asset {path} is lost"))?;
        let id = BlobId::parse(&stored.blob).ok_or_else(|| format!("the asset {path} is lost"))?;
        entries.push(AssetEntry {
            path,
            file: tenant.blobs.path(&id),
            // What browsers compare: the same for the same content only.
            hash: if made_up { stored.blob } else { file.hash },
            size: file.size,
            content_type: stored.content_type,
        });
    }
    let mut options = assets_config(config)?;
    options.cache = tenant.asset_cache.clone();
    let text = |key: &str| assets.config[key].as_str().unwrap_or_default().to_owned();
    let opened = Assets::from_entries(entries, &text("_redirects"), &text("_headers"), options);
    Ok(Some(opened.map_err(|e| e.to_string())?.0))
}
