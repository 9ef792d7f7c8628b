// What runs in the container: HTTP, WebSockets and an echo over TCP.
const http = require("node:http");
const crypto = require("node:crypto");
const net = require("node:net");

const server = http.createServer((request, response) => {
  let body = "";
  request.on("data", (piece) => (body += piece));
  request.on("end", () => {
    const { method, url } = request;
    response.end(JSON.stringify({ method, url, body, greeting: process.env.GREETING }));
  });
});

server.on("upgrade", (request, socket) => {
  const key = request.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
  const accept = crypto.createHash("sha1").update(key).digest("base64");
  socket.write(
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
      `Sec-WebSocket-Accept: ${accept}\r\n\r\n`,
  );
  // One short message after the other, each in a piece of its own.
  socket.on("data", (frame) => {
    if ((frame[0] & 15) !== 1) return socket.end();
    const mask = frame.subarray(2, 6);
    const text = frame.subarray(6, 6 + (frame[1] & 127)).map((byte, n) => byte ^ mask[n % 4]);
    const answer = Buffer.concat([Buffer.from("container: "), text]);
    socket.write(Buffer.concat([Buffer.from([129, answer.length]), answer]));
  });
  socket.on("error", () => {});
});

server.listen(8080);
net.createServer((socket) => socket.on("error", () => {}).pipe(socket)).listen(9000);
process.on("SIGTERM", () => process.exit(7));
