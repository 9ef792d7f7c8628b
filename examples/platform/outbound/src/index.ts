// What tenants send outside comes here first: it is logged, and let through if the tenant's plan allows it.

interface Env {
  DB: D1Database;
  /** What the dispatcher said of the tenant. A request that a tenant makes outside of one of its own requests has neither. */
  tenant?: string;
  plan?: string;
}

export default {
  async fetch(request, env, ctx) {
    const plan = await env.DB.prepare("SELECT outside FROM plans WHERE name = ?").bind(env.plan ?? "").first<{ outside: number }>();
    const allowed = plan?.outside === 1;
    const entry = env.DB.prepare("INSERT INTO outside VALUES (?, ?, ?, ?)");
    ctx.waitUntil(entry.bind(Date.now(), env.tenant ?? "", request.url, Number(allowed)).run());
    if (!allowed) return new Response("Your plan does not reach the internet.\n", { status: 403 });
    return fetch(request);
  },
} satisfies ExportedHandler<Env>;
