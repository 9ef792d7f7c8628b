// What the official SDK sees of Hyperdrive; the argument is an origin. Prints it as its last line.
import Cloudflare from "cloudflare";

const client = new Cloudflare({
  apiToken: process.env.CLOUDFLARE_API_TOKEN,
  baseURL: process.env.CLOUDFLARE_API_BASE_URL,
});
const account_id = process.env.CLOUDFLARE_ACCOUNT_ID;
const origin = JSON.parse(process.argv[2]);
const { configs } = client.hyperdrive;

const made = await configs.create({ account_id, name: "sdk", origin });
const listed = [];
for await (const config of configs.list({ account_id })) listed.push(config.name);
const got = await configs.get(made.id, { account_id });
const edited = await configs.edit(made.id, { account_id, name: "renamed", caching: { disabled: true, max_age: 3 } });
const replaced = await configs.update(made.id, { account_id, name: "replaced", origin, origin_connection_limit: 9 });
await configs.delete(made.id, { account_id });
const missing = await configs.get(made.id, { account_id }).catch((error) => `${error.status} ${error.errors[0].code}`);
const kept = await configs.create({ account_id, name: "kept", origin, id: made.id });

console.log(JSON.stringify({
  id: made.id,
  made: [made.origin, made.caching, made.origin_connection_limit],
  listed,
  got: got.name,
  edited: [edited.name, edited.caching, edited.origin],
  replaced: [replaced.name, replaced.caching, replaced.origin_connection_limit],
  kept: kept.id,
  missing,
}));
