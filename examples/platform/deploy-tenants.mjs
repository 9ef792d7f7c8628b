// Deploys a tenant's code a hundred times over the v4 API, each as a script of its own, and signs the tenants up.
//
//   node deploy-tenants.mjs [how many]
//
// with the variables set that `skep serve` prints.

import { readFile } from "node:fs/promises";

const { CLOUDFLARE_API_BASE_URL: api, CLOUDFLARE_ACCOUNT_ID: account, CLOUDFLARE_API_TOKEN: token } = process.env;
const count = Number(process.argv[2] ?? 100);
if (!api || !account || !token || !Number.isInteger(count)) {
  console.error("usage: node deploy-tenants.mjs [COUNT], with CLOUDFLARE_API_BASE_URL, _ACCOUNT_ID and _API_TOKEN set");
  process.exit(2);
}
const code = await readFile(new URL("tenants/page.js", import.meta.url));

/** Calls the API and returns its result. @param {string} path @param {RequestInit} init */
async function call(path, init = {}) {
  const headers = { authorization: `Bearer ${token}`, ...init.headers };
  const response = await fetch(`${api}/accounts/${account}${path}`, { ...init, headers });
  const { success, result, errors } = await response.json();
  if (!success) throw new Error(`${path}: ${errors.map(({ code, message }) => `${message} (${code})`).join(", ")}`);
  return result;
}

const [database] = await call("/d1/database?name=platform");
if (!database) throw new Error("deploy the dispatcher and apply its migrations first");

/** @param {number} number */
async function deploy(number) {
  const name = `tenant-${number}`;
  const plan = number % 10 === 0 ? "pro" : "free";
  const form = new FormData();
  const metadata = {
    main_module: "page.js",
    compatibility_date: "2026-07-01",
    bindings: [{ type: "plain_text", name: "NAME", text: name }],
    tags: [plan],
  };
  form.set("metadata", new Blob([JSON.stringify(metadata)], { type: "application/json" }));
  form.set("page.js", new File([code], "page.js", { type: "application/javascript+module" }));
  await call(`/workers/dispatch/namespaces/tenants/scripts/${name}`, { method: "PUT", body: form });
  const sql = "INSERT INTO tenants VALUES (?1, ?2) ON CONFLICT DO UPDATE SET plan = ?2";
  const body = JSON.stringify({ sql, params: [name, plan] });
  await call(`/d1/database/${database.uuid}/query`, { method: "POST", headers: { "content-type": "application/json" }, body });
}

const start = performance.now();
let next = 1;
const lane = async () => {
  while (next <= count) await deploy(next++);
};
await Promise.all(Array.from({ length: 4 }, lane));
console.log(`${count} tenants in ${((performance.now() - start) / 1000).toFixed(1)} s`);
