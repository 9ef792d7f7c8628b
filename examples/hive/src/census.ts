import { WorkerEntrypoint } from "cloudflare:workers";
import type { Env } from "./env";

/** A named entrypoint, called through a service binding. */
export class Census extends WorkerEntrypoint<Env, { unit: string }> {
  async count(colony: number) {
    return `${colony.toLocaleString("en")} ${this.ctx.props.unit}`;
  }
}
