import { DurableObject } from "cloudflare:workers";
import type { Env } from "./env";

/** What is said in a room. */
export interface Line {
  who: string;
  text: string;
  at: number;
}

/** A chat room. Its sockets hibernate: the object may leave memory while people stay connected. */
export class Room extends DurableObject<Env> {
  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    ctx.storage.sql.exec("CREATE TABLE IF NOT EXISTS lines (id INTEGER PRIMARY KEY, who TEXT, text TEXT, at INTEGER)");
    ctx.setWebSocketAutoResponse(new WebSocketRequestResponsePair("ping", "pong"));
  }

  async fetch(request: Request) {
    const who = new URL(request.url).searchParams.get("who")?.slice(0, 30) || "a bee";
    const { 0: client, 1: server } = new WebSocketPair();
    this.ctx.acceptWebSocket(server, [who]);
    server.serializeAttachment({ who });
    return new Response(null, { status: 101, webSocket: client });
  }

  async webSocketMessage(socket: WebSocket, message: string | ArrayBuffer) {
    const { who } = socket.deserializeAttachment() as { who: string };
    const line: Line = { who, text: String(message).slice(0, 500), at: Date.now() };
    this.ctx.storage.sql.exec("INSERT INTO lines (who, text, at) VALUES (?, ?, ?)", line.who, line.text, line.at);
    this.ctx.storage.sql.exec("DELETE FROM lines WHERE id <= (SELECT max(id) FROM lines) - 200");
    for (const other of this.ctx.getWebSockets()) other.send(JSON.stringify(line));
  }

  async webSocketClose(socket: WebSocket, code: number) {
    socket.close(code === 1005 || code === 1006 ? 1000 : code);
  }

  /** The last twenty lines, oldest first. */
  async history(): Promise<Line[]> {
    const rows = this.ctx.storage.sql.exec("SELECT who, text, at FROM lines ORDER BY id DESC LIMIT 20").toArray();
    return (rows as unknown as Line[]).reverse();
  }
}
