import { WorkflowEntrypoint, type WorkflowEvent, type WorkflowStep } from "cloudflare:workers";
import type { Env } from "./env";

/** A Workflow: its steps survive a restart. */
export class Harvest extends WorkflowEntrypoint<Env, { field: string }> {
  async run(event: WorkflowEvent<{ field: string }>, step: WorkflowStep) {
    const nectar = await step.do("gather", async () => ({ from: event.payload.field, grams: 40 }));
    await step.sleep("ripen", "1 second");
    return await step.do("fill a jar", async () => `${nectar.grams / 4} g of ${nectar.from} honey`);
  }
}
