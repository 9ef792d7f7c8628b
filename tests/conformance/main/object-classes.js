import { DurableObject } from "cloudflare:workers"; export class KeyedObject extends DurableObject {}; export class SqlObject extends DurableObject {}
