import { attempt, eventually, kind } from "./kit.js";

function pair() {
  const [client, server] = Object.values(new WebSocketPair());
  client.accept();
  server.accept();
  return [client, server];
}

/** Everything that `socket` gets from now on. */
function heard(socket) {
  const events = [];
  socket.addEventListener("message", ({ data }) => events.push(data));
  socket.addEventListener("close", ({ code, reason, wasClean }) => events.push({ code, reason, wasClean }));
  return events;
}

export const sockets = {
  "a pair": async () => {
    const [client, server] = pair();
    const events = heard(client);
    server.send("text");
    server.send(new Uint8Array([1, 2]));
    server.close(4000, "done");
    await eventually(() => events.length === 3);
    return [events, client.readyState, server.readyState];
  },
  "close codes": async () => {
    const results = {};
    for (const code of [undefined, 1000, 1001, 1005, 1006, 999, 3000, 4999, 5000, 1015]) {
      results[String(code)] = await attempt(async () => {
        const [client, server] = pair();
        const events = heard(client);
        server.close(code, code === undefined ? undefined : "why");
        await eventually(() => events.length);
        return events;
      });
    }
    return results;
  },
  "a reason that is too long": async () => attempt(() => pair()[1].close(1000, "x".repeat(124))),
  "send after close": async () => {
    const [, server] = pair();
    server.close();
    return attempt(() => server.send("x"));
  },
  "send before accept": async () => attempt(() => Object.values(new WebSocketPair())[0].send("x")),
  "a response with a WebSocket": async () => attempt(() => {
    const [client] = Object.values(new WebSocketPair());
    const response = new Response(null, { status: 101, webSocket: client });
    return [response.status, kind(response.webSocket)];
  }),
  "status 101 without a WebSocket": async () => attempt(() => new Response(null, { status: 101 }).status),
};
