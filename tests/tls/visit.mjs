// A visitor over TLS: `node visit.mjs PORT NAME CA.pem`; prints what it met.
import { readFileSync } from "node:fs";
import http2 from "node:http2";
import https from "node:https";
import tls from "node:tls";

const [port, name, file] = process.argv.slice(2);
const ca = readFileSync(file);
const to = { host: "127.0.0.1", port: Number(port), servername: name, ca };

function overHttp1() {
  return new Promise((resolve, reject) => {
    const request = https.get({ ...to, path: "/a?b=c", headers: { host: `${name}:${port}` } }, async (response) => {
      let body = "";
      for await (const chunk of response) body += chunk;
      resolve({ status: response.statusCode, body: JSON.parse(body) });
    });
    request.on("error", reject);
  });
}

function overHttp2() {
  return new Promise((resolve, reject) => {
    const socket = tls.connect({ ...to, ALPNProtocols: ["h2"] }, () => {
      const alpn = socket.alpnProtocol;
      const session = http2.connect(`https://${name}:${port}`, { createConnection: () => socket });
      session.on("error", reject);
      const stream = session.request({ ":path": "/h2" });
      let body = "";
      stream.on("data", (chunk) => (body += chunk));
      stream.on("error", reject);
      stream.on("end", () => {
        session.close();
        resolve({ alpn, body: JSON.parse(body) });
      });
    });
    socket.on("error", reject);
  });
}

function upgraded() {
  return new Promise((resolve, reject) => {
    const headers = {
      host: `${name}:${port}`, connection: "Upgrade", upgrade: "websocket",
      "sec-websocket-version": "13", "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    };
    const request = https.get({ ...to, path: "/ws", headers });
    request.on("error", reject);
    request.on("response", (response) => reject(new Error(`not upgraded: ${response.statusCode}`)));
    request.on("upgrade", (_, socket, head) => {
      const frame = (bytes) => {
        const length = bytes[1] & 0x7f;
        resolve(bytes.subarray(2, 2 + length).toString());
        socket.destroy();
      };
      head.length > 0 ? frame(head) : socket.once("data", frame);
    });
  });
}

console.log(JSON.stringify({ http1: await overHttp1(), http2: await overHttp2(), message: await upgraded() }));
