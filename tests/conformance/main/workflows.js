import { WorkflowEntrypoint } from "cloudflare:workers"; export const workflows = {}; export class Flow extends WorkflowEntrypoint {}
