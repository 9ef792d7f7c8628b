import { attempt, attempts, shown } from "./kit.js";

const HEADERS = ["content-type", "cache-control", "location", "etag", "x-rule", "x-docs"];

/** Etags are opaque: their form is compared. */
function formed({ etag, ...answer }) {
  return { ...answer, etag: etag && /^"[0-9a-f]{32}"$/.test(etag) };
}

/** What a site answers, path by path. */
async function answers(site, paths) {
  const results = {};
  for (const path of paths) results[path] = await attempt(async () => formed(await shown(await site.fetch(`https://site.example${path}`, { redirect: "manual" }), HEADERS)));
  return results;
}

const PAGES = ["/", "/index", "/index.html", "/index/", "/page", "/page/", "/page.html", "/folder", "/folder/", "/folder/index", "/folder/index.html", "/docs", "/docs/", "/docs/guide", "/docs/guide.html", "/docs/guide/", "/none", "/none/", "/docs/none", "/404", "/404.html"];

export const assets = {
  "env.ASSETS: auto-trailing-slash": ({ env: { ASSETS } }) => answers(ASSETS, PAGES),
  "force-trailing-slash and the 404 page": ({ env: { SITE_FORCE } }) => answers(SITE_FORCE, PAGES),
  "drop-trailing-slash and a single-page application": ({ env: { SITE_DROP } }) => answers(SITE_DROP, PAGES),
  "env.ASSETS: files": ({ env: { ASSETS } }) => answers(ASSETS, ["/file.txt", "/data.json", "/style.css", "/file.unknownext", "/LICENSE", "/a%20file.txt", "/%C3%BC.txt", "/secret.txt", "/_headers", "/_redirects", "/.assetsignore", "/FILE.TXT", "//file.txt", "/folder//index.html", "/./file.txt", "/x/../file.txt", "/file.txt/", "/file.txt?query"]),
  "env.ASSETS: redirects": ({ env: { ASSETS } }) => answers(ASSETS, ["/old", "/old/", "/old?a=b", "/temporary", "/gone/guide", "/gone/", "/user/5", "/user/5/6", "/permanent", "/proxied", "/fragment", "/query?c=d"]),
  "env.ASSETS: methods": async ({ env: { ASSETS } }) => {
    const results = {};
    for (const method of ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"]) results[method] = await attempt(async () => formed(await shown(await ASSETS.fetch("https://site.example/file.txt", { method }), ["allow", "content-type", "etag"])));
    return results;
  },
  "env.ASSETS: conditions": async ({ env: { ASSETS } }) => {
    const etag = (await ASSETS.fetch("https://site.example/file.txt")).headers.get("etag");
    const get = async (headers) => formed(await shown(await ASSETS.fetch("https://site.example/file.txt", { headers }), ["etag", "cache-control", "content-type"]));
    return attempts({
      same: () => get({ "if-none-match": etag }),
      weak: () => get({ "if-none-match": `W/${etag}` }),
      other: () => get({ "if-none-match": '"other"' }),
    });
  },
  "env.ASSETS: lists of etags": async ({ env: { ASSETS } }) => {
    const etag = (await ASSETS.fetch("https://site.example/file.txt")).headers.get("etag");
    const status = async (value) => (await ASSETS.fetch("https://site.example/file.txt", { headers: { "if-none-match": value } })).status;
    return [await status(`"a", ${etag}`), await status("*")];
  },
  "env.ASSETS: ranges": async ({ env: { ASSETS } }) => {
    const results = {};
    for (const range of ["bytes=1-3", "bytes=-3", "bytes=100-"]) results[range] = await shown(await ASSETS.fetch("https://site.example/file.txt", { headers: { range } }), ["content-range", "content-length", "accept-ranges"]);
    return results;
  },
};
