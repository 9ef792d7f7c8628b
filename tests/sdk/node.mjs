// Drives the official TypeScript SDK against the API named by the environment. Prints one JSON object of what it saw.
import Cloudflare, { toFile } from "cloudflare";

const account_id = process.env.CLOUDFLARE_ACCOUNT_ID;
const client = new Cloudflare({ apiToken: process.env.CLOUDFLARE_API_TOKEN, baseURL: process.env.CLOUDFLARE_API_BASE_URL });
const all = async (list) => {
  const items = [];
  for await (const item of list) items.push(item);
  return items;
};
const status = (promise) => promise.then(() => 200, (error) => `${error.status} ${error.errors?.[0]?.code}`);
const seen = {};

// Scripts
const code = (text) => `export default { fetch(request, env) { return new Response("${text} " + env.A + (env.S ?? "")) }, queue() {} }`;
const module = (text) => toFile(Buffer.from(code(text)), "index.js", { type: "application/javascript+module" });
const metadata = { main_module: "index.js", compatibility_date: "2026-07-01", bindings: [{ type: "plain_text", name: "A", text: "b" }] };
const { scripts } = client.workers;
await scripts.update("from-sdk", { account_id, metadata, files: [await module("from the SDK")] });
await scripts.subdomain.create("from-sdk", { account_id, enabled: true });
seen.subdomain = (await scripts.subdomain.get("from-sdk", { account_id })).enabled;
seen.scripts = (await all(scripts.list({ account_id }))).map(({ id }) => id);
seen.content = (await (await scripts.content.get("from-sdk", { account_id })).text()).includes("from the SDK");
seen.settings = (await scripts.settings.get("from-sdk", { account_id })).logpush;
seen.bindings = (await scripts.scriptAndVersionSettings.get("from-sdk", { account_id })).bindings.map(({ type, name }) => [type, name]);
await scripts.schedules.update("from-sdk", { account_id, body: [{ cron: "0 4 * * *" }] });
seen.schedules = (await scripts.schedules.get("from-sdk", { account_id })).schedules.map(({ cron }) => cron);
await scripts.secrets.update("from-sdk", { account_id, name: "S", text: "hush", type: "secret_text" });
seen.secrets = (await all(scripts.secrets.list("from-sdk", { account_id }))).map(({ name }) => name);
seen.secret = (await scripts.secrets.get("S", { account_id, script_name: "from-sdk" })).type;
seen.versions = (await all(scripts.versions.list("from-sdk", { account_id }))).length;
const uploaded = await scripts.versions.create("from-sdk", {
  account_id,
  metadata: { ...metadata, keep_bindings: ["secret_text"], annotations: { "workers/message": "second" } },
  files: [await module("second")],
});
seen.version = (await scripts.versions.get(uploaded.id, { account_id, script_name: "from-sdk" })).annotations["workers/message"];
await scripts.deployments.create("from-sdk", { account_id, strategy: "percentage", versions: [{ version_id: uploaded.id, percentage: 100 }] });
// The SDK looks for `items`, which Cloudflare does not send either.
const { deployments } = (await scripts.deployments.list("from-sdk", { account_id })).result;
seen.deployed = [deployments.length, deployments[0].versions[0].version_id === uploaded.id, deployments[0].versions[0].percentage];
seen.tail = new URL((await scripts.tail.create("from-sdk", { account_id, body: {} })).url).protocol;
seen.missing = await status(scripts.settings.get("nothing", { account_id }));
seen.accountSubdomain = (await client.workers.subdomains.get({ account_id })).subdomain;
await scripts.update("gone", { account_id, metadata, files: [await module("gone")] });
await scripts.delete("gone", { account_id });

// Observability
const { telemetry } = client.workers.observability;
const timeframe = { from: 0, to: Date.now() + 60_000 };
const asked = await telemetry.query({ account_id, queryId: "sdk", timeframe, view: "events", parameters: { filters: [{ key: "$metadata.service", operation: "eq", type: "string", value: "nothing" }] } });
seen.telemetry = [asked.run.status, asked.events.count, asked.statistics.rows_read];
seen.telemetryKeys = (await all(telemetry.keys({ account_id, limit: 10 }))).length;
seen.telemetryValues = (await all(telemetry.values({ account_id, timeframe, datasets: [], key: "$metadata.level", type: "string" }))).length;
seen.traces = await status(telemetry.query({ account_id, queryId: "sdk", timeframe, view: "traces", parameters: {} }));

// KV
const kv = await client.kv.namespaces.create({ account_id, title: "sdk" });
await client.kv.namespaces.values.update("a/b", { account_id, namespace_id: kv.id, value: "v", metadata: '{"x":1}' });
await client.kv.namespaces.bulkUpdate(kv.id, { account_id, body: [{ key: "c", value: "d" }, { key: "e", value: "f", expiration_ttl: 600 }] });
seen.kv = await (await client.kv.namespaces.values.get("a/b", { account_id, namespace_id: kv.id })).text();
seen.metadata = await client.kv.namespaces.metadata.get("a/b", { account_id, namespace_id: kv.id });
seen.keys = (await all(client.kv.namespaces.keys.list(kv.id, { account_id }))).map(({ name }) => name);
seen.bulk = (await client.kv.namespaces.bulkGet(kv.id, { account_id, keys: ["c", "nothing"] })).values;
await client.kv.namespaces.bulkDelete(kv.id, { account_id, body: ["c", "e"] });
await client.kv.namespaces.values.delete("a/b", { account_id, namespace_id: kv.id });
seen.after = (await all(client.kv.namespaces.keys.list(kv.id, { account_id }))).length;
seen.namespace = (await client.kv.namespaces.get(kv.id, { account_id })).title;
await client.kv.namespaces.update(kv.id, { account_id, title: "renamed" });
seen.namespaces = (await all(client.kv.namespaces.list({ account_id }))).map(({ title }) => title);
await client.kv.namespaces.delete(kv.id, { account_id });

// R2
await client.r2.buckets.create({ account_id, name: "sdk-bucket" });
seen.bucket = (await client.r2.buckets.get("sdk-bucket", { account_id })).name;
seen.buckets = (await client.r2.buckets.list({ account_id })).buckets.map(({ name }) => name);
seen.taken = await status(client.r2.buckets.create({ account_id, name: "sdk-bucket" }));
await client.r2.buckets.delete("sdk-bucket", { account_id });

// D1
const d1 = await client.d1.database.create({ account_id, name: "sdk-db" });
const rows = await all(client.d1.database.query(d1.uuid, { account_id, sql: "SELECT ? AS n", params: ["5"] }));
seen.d1 = rows[0].results;
const raw = await all(client.d1.database.raw(d1.uuid, { account_id, sql: "SELECT 1 AS a, 2 AS b" }));
seen.raw = raw[0].results;
seen.badSql = await status(all(client.d1.database.query(d1.uuid, { account_id, sql: "SELEC" })));
seen.database = (await client.d1.database.get(d1.uuid, { account_id })).name;
seen.databases = (await all(client.d1.database.list({ account_id }))).map(({ name }) => name);
await client.d1.database.delete(d1.uuid, { account_id });

// Queues
const queue = await client.queues.create({ account_id, queue_name: "sdk-queue" });
const { queue_id } = queue;
await client.queues.messages.push(queue_id, { account_id, body: "hello", content_type: "text" });
await client.queues.messages.bulkPush(queue_id, { account_id, messages: [{ body: { a: 1 }, content_type: "json" }] });
seen.queues = (await all(client.queues.list({ account_id }))).map(({ queue_name }) => queue_name);
await client.queues.edit(queue_id, { account_id, queue_name: "sdk-queue", settings: { delivery_delay: 3 } });
seen.delay = (await client.queues.get(queue_id, { account_id })).settings.delivery_delay;
await client.queues.update(queue_id, { account_id, queue_name: "sdk-queue", settings: { delivery_delay: 0 } });
const consumer = await client.queues.consumers.create(queue_id, { account_id, type: "worker", script_name: "from-sdk" });
seen.consumers = (await all(client.queues.consumers.list(queue_id, { account_id }))).map(({ type }) => type);
await client.queues.consumers.delete(consumer.consumer_id, { account_id, queue_id });
await client.queues.purge.start(queue_id, { account_id, delete_messages_permanently: true });
await client.queues.delete(queue_id, { account_id });

// Workers for Platforms
const { namespaces } = client.workersForPlatforms.dispatch;
await namespaces.create({ account_id, name: "sdk-tenants" });
seen.dispatch = (await all(namespaces.list({ account_id }))).map(({ namespace_name }) => namespace_name);
seen.trusted = (await namespaces.get("sdk-tenants", { account_id })).trusted_workers;
const tenants = namespaces.scripts;
await tenants.update("tenant", { account_id, dispatch_namespace: "sdk-tenants", metadata: { ...metadata, tags: ["plan-a"] }, files: [await module("tenant")] });
seen.tenant = (await tenants.get("tenant", { account_id, dispatch_namespace: "sdk-tenants" })).script.id;
seen.tenantContent = (await (await tenants.content.get("tenant", { account_id, dispatch_namespace: "sdk-tenants" })).text()).includes("tenant");
seen.tenantSettings = (await tenants.settings.get("tenant", { account_id, dispatch_namespace: "sdk-tenants" })).bindings.length;
seen.tenantBindings = (await all(tenants.bindings.get("tenant", { account_id, dispatch_namespace: "sdk-tenants" }))).map(({ name }) => name);
await tenants.secrets.update("tenant", { account_id, dispatch_namespace: "sdk-tenants", name: "S", text: "hush", type: "secret_text" });
seen.tenantSecrets = (await all(tenants.secrets.list("tenant", { account_id, dispatch_namespace: "sdk-tenants" }))).map(({ name }) => name);
await tenants.tags.update("tenant", { account_id, dispatch_namespace: "sdk-tenants", body: ["plan-b"] });
seen.tags = await all(tenants.tags.list("tenant", { account_id, dispatch_namespace: "sdk-tenants" }));
await tenants.delete("tenant", { account_id, dispatch_namespace: "sdk-tenants" });
seen.goneTenant = await status(tenants.get("tenant", { account_id, dispatch_namespace: "sdk-tenants" }));
await namespaces.delete("sdk-tenants", { account_id });

// Who it is.
seen.verified = (await client.user.tokens.verify()).status;
seen.accounts = (await all(client.accounts.list())).map(({ id }) => id === account_id);

console.log(JSON.stringify(seen));
