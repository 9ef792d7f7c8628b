import { launch as playwright } from "@cloudflare/playwright";
import puppeteer from "@cloudflare/puppeteer";
import earlier from "earlier-puppeteer";

const HANGS = 20_000;
const said = (error) => error.message.split("\n")[0];

/** What becomes of a visit: the text of the page, or why there is none. Each has a page of its own, as that of an error comes later. */
async function visit(browser, url) {
  const page = await browser.newPage();
  try {
    await page.goto(url, { timeout: HANGS });
    return await page.evaluate(() => document.body.innerText || document.documentElement.outerHTML);
  } catch (error) {
    return said(error).replaceAll(url, "URL");
  } finally {
    await page.close();
  }
}

const withBrowser = async (env, then) => {
  const browser = await puppeteer.launch(env.BROWSER);
  try {
    return await then(await browser.newPage(), browser);
  } finally {
    await browser.close().catch(() => {});
  }
};

const cases = {
  /** All three libraries see a page, of a site that the node lets it reach. */
  async libraries(env, to) {
    const all = [];
    for (const launch of [puppeteer.launch, playwright, earlier.launch]) {
      const browser = await launch(env.BROWSER);
      const page = await browser.newPage();
      await page.goto(to);
      const shot = new TextDecoder("latin1").decode((await page.screenshot()).slice(0, 4));
      all.push([await page.title(), shot, (await page.evaluate((n) => "é".repeat(n), 1_500_000)).length]);
      await browser.close();
    }
    return all;
  },
  /** Where visits lead, those of a page's own code as well. */
  reach: (env, to) =>
    withBrowser(env, async (page, browser) => {
      const visits = [];
      for (const url of JSON.parse(to)) visits.push(await visit(browser, url));
      await page.goto(JSON.parse(to)[0]);
      const asked = await page.evaluate(async (urls) => {
        const ask = (url) => fetch(url, { mode: "no-cors" }).then(() => "answered", () => "failed");
        const open = (url) => new Promise((resolve) => {
          const socket = new WebSocket(url.replace(/^http/, "ws"));
          socket.onopen = () => resolve("answered");
          socket.onerror = () => resolve("failed");
        });
        return [await Promise.all(urls.map(ask)), await Promise.all(urls.filter((url) => url.startsWith("http")).map(open))];
      }, JSON.parse(to));
      return { visits, asked };
    }),
  /** What a browser sees of files. */
  files: (env, to) =>
    withBrowser(env, async (page, browser) => {
      const seen = {};
      for (const path of JSON.parse(to)) seen[path] = await visit(browser, `file://${path}`);
      return seen;
    }),
  /** Datagrams to a port, as WebRTC sends them. */
  datagrams: (env, to) =>
    withBrowser(env, async (page) => {
      await page.goto("about:blank");
      return page.evaluate(async (server) => {
        const peer = new RTCPeerConnection({ iceServers: [{ urls: `stun:${server}` }] });
        peer.createDataChannel("x");
        await peer.setLocalDescription(await peer.createOffer());
        await new Promise((resolve) => {
          peer.onicegatheringstatechange = () => peer.iceGatheringState === "complete" && resolve();
          setTimeout(resolve, 5_000);
        });
        return peer.localDescription.sdp.split("\n").filter((line) => line.startsWith("a=candidate")).length;
      }, to);
    }),
  async many(env) {
    const limits = await puppeteer.limits(env.BROWSER);
    const ids = [];
    let refused;
    try {
      for (;;) ids.push((await puppeteer.acquire(env.BROWSER)).sessionId);
    } catch (error) {
      refused = error.message;
    }
    return { most: limits.maxConcurrentSessions, ids, refused };
  },
  async close(env) {
    for (const { sessionId } of await puppeteer.sessions(env.BROWSER)) {
      await env.BROWSER.fetch(`https://any/v1/devtools/browser/${sessionId}`, { method: "DELETE" });
    }
    return (await puppeteer.sessions(env.BROWSER)).length;
  },
  /** More memory than a browser may have. */
  bomb: (env) =>
    withBrowser(env, async (page) => {
      const grown = page.evaluate(async () => {
        const kept = [];
        for (;;) kept.push(new Uint8Array(64 << 20).fill(1));
      });
      const crashed = new Promise((resolve) => page.once("error", (error) => resolve(said(error))));
      return Promise.race([crashed, grown.then(() => "grown", said)]);
    }),
  /** Code that never ends, in several pages. */
  loop: (env) =>
    withBrowser(env, async (page, browser) => {
      for (let n = 0; n < 4; n++) (await browser.newPage()).evaluate(() => { for (;;); }).catch(() => {});
      await scheduler.wait(3_000);
      return "looped";
    }),
};

export default {
  async fetch(request, env) {
    const url = new URL(request.url);
    try {
      return Response.json(await cases[url.pathname.slice(1)](env, url.searchParams.get("to")));
    } catch (error) {
      return Response.json(String(error.stack), { status: 500 });
    }
  },
};
