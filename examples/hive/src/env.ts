import type { Census } from "./census";
import type { Limiter } from "./limiter";
import type { Room } from "./room";

/** What `wrangler.jsonc` binds. */
export interface Env {
  ASSETS: Fetcher;
  GREETING: string;
  LIMITS: { perMinute: number };
  VERSION: { id: string; tag: string; timestamp: string };
  SETTINGS: KVNamespace;
  FILES: R2Bucket;
  NOTES: D1Database;
  ROOMS: DurableObjectNamespace<Room>;
  LIMITER: DurableObjectNamespace<Limiter>;
  JOBS: Queue<Job>;
  HARVEST: Workflow<{ field: string }>;
  CENSUS: Service<Census>;
  SHOUTS: RateLimit;
  VISITS: AnalyticsEngineDataset;
}

/** A message on the queue. */
export interface Job {
  id: string;
  text: string;
}
