// Runs projects on Miniflare: the first takes the requests, the others are called by it. Prints the URL and ends when its
// standard input closes.
import { readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { extname, join } from "node:path";

const [npm, state, ...projects] = process.argv.slice(2);
const { Log, LogLevel, Miniflare, convertV4MiniflareOptions } = createRequire(`${npm}/`)("miniflare");

const MODULE_TYPES = { ".js": "ESModule", ".txt": "Text", ".bin": "Data", ".wasm": "CompiledWasm" };

/** What the rest of an object of `list` is, by the value of `name`. */
function byName(list = [], name, value) {
  return Object.fromEntries(list.map((item) => [item[name], value(item)]));
}

function modules(folder, main) {
  const names = readdirSync(folder).filter((name) => name !== main && extname(name) in MODULE_TYPES);
  return [main, ...names].map((name) => ({ type: MODULE_TYPES[extname(name)], path: join(folder, name) }));
}

function assets({ directory, binding, run_worker_first, html_handling, not_found_handling }, folder, main) {
  return {
    directory: join(folder, directory),
    binding,
    run_worker_first,
    routerConfig: { has_user_worker: main !== undefined },
    assetConfig: { html_handling, not_found_handling },
  };
}

/** The options that mean what `wrangler.json` means. */
function worker(folder) {
  const config = JSON.parse(readFileSync(join(folder, "wrangler.json"), "utf8"));
  const sqlite = new Set(config.migrations?.flatMap((migration) => migration.new_sqlite_classes ?? []));
  return {
    name: config.name,
    compatibilityDate: config.compatibility_date,
    compatibilityFlags: config.compatibility_flags,
    ...(config.main
      ? { modules: modules(folder, config.main), modulesRoot: folder }
      : { modules: true, script: "export default {}" }),
    bindings: config.vars,
    versionMetadata: config.version_metadata?.binding,
    kvNamespaces: byName(config.kv_namespaces, "binding", (b) => b.id),
    r2Buckets: byName(config.r2_buckets, "binding", (b) => b.bucket_name),
    d1Databases: byName(config.d1_databases, "binding", (b) => b.database_id),
    durableObjects: byName(config.durable_objects?.bindings, "name", (b) => ({
      className: b.class_name,
      scriptName: b.script_name,
      useSQLite: sqlite.has(b.class_name),
    })),
    queueProducers: byName(config.queues?.producers, "binding", (b) => ({
      queueName: b.queue,
      deliveryDelay: b.delivery_delay,
    })),
    queueConsumers: byName(config.queues?.consumers, "queue", (c) => ({
      maxBatchSize: c.max_batch_size,
      maxBatchTimeout: c.max_batch_timeout,
      maxRetries: c.max_retries,
      deadLetterQueue: c.dead_letter_queue,
      retryDelay: c.retry_delay,
    })),
    serviceBindings: byName(config.services, "binding", (b) => ({
      name: b.service,
      entrypoint: b.entrypoint,
      props: b.props,
    })),
    ratelimits: byName(config.ratelimits, "name", (b) => ({ namespace_id: b.namespace_id, simple: b.simple })),
    analyticsEngineDatasets: byName(config.analytics_engine_datasets, "binding", (b) => ({ dataset: b.dataset })),
    images: config.images && { binding: config.images.binding },
    workflows: byName(config.workflows, "binding", (b) => ({ name: b.name, className: b.class_name })),
    assets: config.assets && assets(config.assets, folder, config.main),
  };
}

const miniflare = new Miniflare(
  convertV4MiniflareOptions({
    workers: projects.map(worker),
    resourcePersistencePath: state,
    unsafeTriggerHandlers: true,
    log: new Log(LogLevel.WARN),
    host: "127.0.0.1",
    port: 0,
    // No request for it over the network.
    cf: false,
  }),
);
console.log(`Ready on ${String(await miniflare.ready)}`);
process.stdin.resume().on("end", async () => {
  await miniflare.dispose();
  process.exit();
});
