// A small platform: `<tenant>.tenants.localhost` is a tenant's own code, within the limits of its plan.

interface Plan {
  name: string;
  cpu_ms: number;
  subrequests: number;
  outside: number;
}

interface Env {
  DB: D1Database;
  TENANTS: DispatchNamespace;
}

const DOMAIN = ".tenants.localhost";

/** How long a plan is believed, in milliseconds. */
const FRESH = 5000;
const plans = new Map<string, { plan: Plan; until: number }>();

async function planOf(tenant: string, db: D1Database): Promise<Plan | null> {
  const known = plans.get(tenant);
  if (known && known.until > Date.now()) return known.plan;
  const plan = await db
    .prepare("SELECT plans.* FROM tenants JOIN plans ON plans.name = tenants.plan WHERE tenants.name = ?")
    .bind(tenant)
    .first<Plan>();
  if (plan) plans.set(tenant, { plan, until: Date.now() + FRESH });
  return plan;
}

async function dispatch(tenant: string, request: Request, env: Env): Promise<Response> {
  const plan = await planOf(tenant, env.DB);
  if (!plan) return new Response(`There is no tenant "${tenant}".\n`, { status: 404 });
  try {
    const worker = env.TENANTS.get(
      tenant,
      {},
      {
        limits: { cpuMs: plan.cpu_ms, subRequests: plan.subrequests },
        outbound: { tenant, plan: plan.name },
      },
    );
    return await worker.fetch(request);
  } catch (error) {
    const { message } = error as Error;
    if (message.startsWith("Worker not found")) {
      return new Response(`"${tenant}" has deployed nothing yet.\n`, { status: 404 });
    }
    // The tenant's own fault: it threw, or it wanted more than its plan gives.
    return new Response(`${tenant}: ${message}\n`, { status: 500 });
  }
}

/** The platform's own side: who is there, who has which plan, what they asked of the outside. */
async function administer(request: Request, env: Env): Promise<Response> {
  const { pathname } = new URL(request.url);
  const tenant = pathname.match(/^\/tenants\/([a-z0-9-]{1,63})$/)?.[1];
  if (request.method === "PUT" && tenant) {
    const { plan } = await request.json<{ plan: string }>();
    const known = await env.DB.prepare("SELECT 1 FROM plans WHERE name = ?").bind(plan).first();
    if (!known) return Response.json({ error: `there is no plan "${plan}"` }, { status: 400 });
    await env.DB.prepare("INSERT INTO tenants VALUES (?1, ?2) ON CONFLICT DO UPDATE SET plan = ?2").bind(tenant, plan).run();
    plans.delete(tenant);
    return Response.json({ tenant, plan });
  }
  if (request.method === "GET" && pathname === "/") {
    const [tenants, outside] = await env.DB.batch([
      env.DB.prepare("SELECT name, plan FROM tenants ORDER BY name"),
      env.DB.prepare("SELECT tenant, url, allowed FROM outside ORDER BY at DESC LIMIT 20"),
    ]);
    return Response.json({ tenants: tenants.results, outside: outside.results });
  }
  return new Response("Not found\n", { status: 404 });
}

export default {
  async fetch(request, env) {
    const { hostname } = new URL(request.url);
    if (hostname.endsWith(DOMAIN)) return dispatch(hostname.slice(0, -DOMAIN.length), request, env);
    return administer(request, env);
  },
} satisfies ExportedHandler<Env>;
