import { launch as playwright } from "@cloudflare/playwright";
import puppeteer from "@cloudflare/puppeteer";
import earlier from "earlier-puppeteer";

const PAGE = "<title>Bees</title><h1>Hello, hive</h1><script>document.body.dataset.ready = navigator.webdriver</script>";

/** What a page shows, in more than one message of the size that earlier versions cut. */
async function look(page, origin) {
  await page.goto(origin + "/page");
  return {
    title: await page.title(),
    heading: await page.evaluate(() => document.querySelector("h1").textContent),
    ready: await page.evaluate(() => document.body.dataset.ready),
    long: (await page.evaluate((n) => "é".repeat(n), 1_500_000)).length,
    told: await page.evaluate((text) => text.length, "é".repeat(700_000)),
  };
}

/** The first bytes of a picture and of a document. */
const begins = (bytes, n) => new TextDecoder("latin1").decode(bytes.slice(0, n));

const cases = {
  async puppeteer(env, origin) {
    const browser = await puppeteer.launch(env.BROWSER);
    const id = browser.sessionId();
    const page = await browser.newPage();
    const seen = await look(page, origin);
    const [shot, pdf] = [await page.screenshot(), await page.pdf()];
    const during = (await puppeteer.sessions(env.BROWSER)).find((session) => session.sessionId === id);
    await browser.disconnect();
    // It is there without anybody, with its pages, and may be joined again.
    let left;
    while ((left = (await puppeteer.sessions(env.BROWSER)).find((session) => session.sessionId === id)).connectionId) await scheduler.wait(10);
    const again = await puppeteer.connect(env.BROWSER, id);
    const pages = (await Promise.all((await again.pages()).map((page) => page.title()))).sort();
    await again.close();
    const gone = async () => (await puppeteer.history(env.BROWSER)).find((session) => session.sessionId === id);
    let end;
    while (!(end = await gone()).endTime) await scheduler.wait(10);
    return {
      ...seen, shot: begins(shot, 4), pdf: begins(pdf, 5), pages,
      connected: [typeof during.connectionId, typeof during.connectionStartTime, typeof left.startTime],
      end: [end.closeReason, end.closeReasonText, end.endTime >= end.startTime],
    };
  },
  async playwright(env, origin) {
    const browser = await playwright(env.BROWSER);
    const page = await browser.newPage();
    const seen = await look(page, origin);
    const shot = await page.screenshot();
    await browser.close();
    return { ...seen, shot: begins(shot, 4) };
  },
  async earlier(env, origin) {
    const browser = await earlier.launch(env.BROWSER);
    const seen = await look(await browser.newPage(), origin);
    await browser.close();
    return seen;
  },
  /** Ended by what is left of a session that nobody sends a command. */
  async idle(env) {
    const { sessionId } = await puppeteer.acquire(env.BROWSER, { keep_alive: 300 });
    let end;
    do {
      await scheduler.wait(20);
      end = (await puppeteer.history(env.BROWSER)).find((session) => session.sessionId === sessionId);
    } while (!end.endTime);
    return [end.closeReason, end.closeReasonText, end.endTime - end.startTime >= 300];
  },
  /** As many as may be, and one more. */
  async many(env) {
    const limits = await puppeteer.limits(env.BROWSER);
    const all = await Promise.allSettled(Array.from({ length: limits.maxConcurrentSessions + 1 }, () => puppeteer.acquire(env.BROWSER)));
    const [said] = all.filter((one) => one.status === "rejected").map((one) => one.reason.message);
    const left = await puppeteer.limits(env.BROWSER);
    const ids = all.filter((one) => one.status === "fulfilled").map((one) => one.value.sessionId);
    for (const id of ids) await env.BROWSER.fetch(`https://any/v1/devtools/browser/${id}`, { method: "DELETE" });
    return { most: limits.maxConcurrentSessions, got: ids.length, said, allowed: left.allowedBrowserAcquisitions, after: (await puppeteer.sessions(env.BROWSER)).length };
  },
  /** DevTools over HTTP, and a page's own socket. */
  async devtools(env) {
    const ask = async (path, method = "GET") => {
      const response = await env.BROWSER.fetch(`https://any/v1/devtools/${path}`, { method });
      return [response.status, await response.text()];
    };
    const { sessionId } = await puppeteer.acquire(env.BROWSER);
    const json = async (path, method) => JSON.parse((await ask(`browser/${sessionId}/json/${path}`, method))[1]);
    const version = (await json("version")).Browser;
    const page = await json("new?url=" + encodeURIComponent("data:text/html,<title>a&b=c</title>"), "PUT");
    const { webSocket } = await env.BROWSER.fetch(`https://any/v1/devtools/browser/${sessionId}/page/${page.id}`, { headers: { Upgrade: "websocket" } });
    webSocket.accept();
    const answer = new Promise((resolve) => webSocket.addEventListener("message", (event) => resolve(JSON.parse(event.data))));
    webSocket.send(JSON.stringify({ id: 1, method: "Runtime.evaluate", params: { expression: "6 * 7" } }));
    const { result } = (await answer).result;
    const listed = (await json("list")).map((one) => one.url);
    const shown = JSON.parse((await ask(`session/${sessionId}`))[1]).sessionId === sessionId;
    const closed = (await ask(`browser/${sessionId}/json/close/${page.id}`))[0];
    const end = await ask(`browser/${sessionId}`, "DELETE");
    return { chrome: /Chrome\/\d+/.test(version), value: result.value, listed, shown, closed, end, gone: await ask(`session/${sessionId}`) };
  },
  /** What is not there says so. */
  async refused(env) {
    const ask = async (path, init) => {
      const response = await env.BROWSER.fetch(`https://any/v1/${path}`, init);
      return `${response.status} ${await response.text()}`;
    };
    const { sessionId } = await puppeteer.acquire(env.BROWSER);
    const body = JSON.stringify({ guardrails: { allow: ["example.com"] } });
    const said = [
      await ask("devtools/browser", { method: "POST", body }),
      await ask("devtools/browser?browser=kitesurf", { method: "POST" }),
      await ask("acquire?keep_alive=soon"),
      await ask(`devtools/browser/${sessionId}`),
      await ask("devtools/browser"),
      await ask(`devtools/browser/${sessionId}/page/..%2F..%2Fjson`, { headers: { Upgrade: "websocket" } }),
      await ask(`devtools/browser/${sessionId}/json/close/a%3Fb`),
      await ask("connectDevtools?browser_session=none", { headers: { Upgrade: "websocket" } }),
      await ask("nothing"),
    ];
    await ask(`devtools/browser/${sessionId}`, { method: "DELETE" });
    return said;
  },
  async left(env) {
    return (await puppeteer.acquire(env.BROWSER)).sessionId;
  },
};

export default {
  async fetch(request, env) {
    const url = new URL(request.url);
    if (url.pathname === "/page") return new Response(PAGE, { headers: { "content-type": "text/html" } });
    try {
      return Response.json(await cases[url.pathname.slice(1)](env, url.origin));
    } catch (error) {
      return Response.json(String(error.stack), { status: 500 });
    }
  },
};
