import { DurableObject } from "cloudflare:workers";
import type { Env } from "./env";

/** A second is the finest unit: the window slides from bucket to bucket. */
const BUCKET_MS = 1000;

/** A sliding-window rate limiter: one object per caller. */
export class Limiter extends DurableObject<Env> {
  /** Takes by bucket; read from storage when first needed. */
  #buckets?: Map<number, number>;

  /** Takes one of `limit` in any `window` milliseconds. */
  async take(limit: number, window: number) {
    const buckets = (this.#buckets ??= (await this.ctx.storage.get<Map<number, number>>("buckets")) ?? new Map());
    const now = Date.now();
    const oldest = Math.floor((now - window) / BUCKET_MS);
    let used = 0;
    for (const [bucket, count] of buckets) {
      if (bucket < oldest) buckets.delete(bucket);
      else used += count;
    }
    if (used >= limit) return { allowed: false, remaining: 0 };
    const bucket = Math.floor(now / BUCKET_MS);
    buckets.set(bucket, (buckets.get(bucket) ?? 0) + 1);
    await this.ctx.storage.put("buckets", buckets);
    if ((await this.ctx.storage.getAlarm()) === null) await this.ctx.storage.setAlarm(now + 2 * window);
    return { allowed: true, remaining: limit - used - 1 };
  }

  /** Forgets a caller who has not come back. */
  async alarm() {
    this.#buckets = undefined;
    await this.ctx.storage.deleteAll();
  }
}
