// The service worker of the static site: what was visited once works without a network.
//
// Files of the site's list, and nothing else, are kept under the version of that list; answers of
// the Hub never pass through here. A new version is fetched whole, checked and then taken up at
// once; the next visit begins with it.
const SITE = null; // `weighbridge web build` writes the list here

const PREFIX = `weighbridge ${self.registration.scope} `; // other sites may share this origin
const KEPT = PREFIX + SITE.version;
const TOGETHER = 4;
const LIST = "site.json";

/** @param {string} path */
const address = (path) => new URL(path, self.registration.scope).href;

/** @param {ArrayBuffer} data */
async function digest(data) {
  const sum = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
  return Array.from(sum, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** What an older version keeps of a file that has not changed. @param {string} path */
async function before(path) {
  for (const name of await caches.keys()) {
    if (!name.startsWith(PREFIX) || name === KEPT) continue;
    const cache = await caches.open(name);
    const list = await (await cache.match(address(LIST)))?.json();
    if (list?.files?.[path]?.sha256 === SITE.files[path].sha256) return cache.match(address(path));
  }
  return undefined;
}

/** @param {Cache} cache @param {string} path @param {boolean} [asked] */
async function keep(cache, path, asked = true) {
  const older = await before(path);
  if (!older && SITE.files[path].later && !asked) return; // kept once an answer has asked for it
  const response = older ?? (await fetch(address(path), { cache: "no-cache" }));
  const sum = SITE.files[path].sha256;
  if (!response.ok || (sum && (await digest(await response.clone().arrayBuffer())) !== sum)) {
    throw new Error(`${path} is not what this version of the site lists`);
  }
  await cache.put(address(path), response);
}

async function fill() {
  const cache = await caches.open(KEPT);
  const paths = Object.keys(SITE.files);
  const work = async () => {
    for (let path = paths.pop(); path !== undefined; path = paths.pop()) await keep(cache, path, false);
  };
  await Promise.all(Array.from({ length: TOGETHER }, work));
  await self.skipWaiting();
}

async function clear() {
  const old = (await caches.keys()).filter((name) => name.startsWith(PREFIX) && name !== KEPT);
  await Promise.all(old.map((name) => caches.delete(name)));
  await self.clients.claim();
}

/** @param {string} path @param {Request} request */
async function answer(path, request) {
  const cache = await caches.open(KEPT);
  const kept = await cache.match(address(path));
  if (kept || !SITE.files[path].later) return kept ?? fetch(request);
  await keep(cache, path).catch(() => {});
  return (await cache.match(address(path))) ?? fetch(request);
}

self.addEventListener("install", (event) => event.waitUntil(fill()));
self.addEventListener("activate", (event) => event.waitUntil(clear()));
self.addEventListener("fetch", (event) => {
  const { method, url } = event.request;
  const scope = self.registration.scope;
  if (method !== "GET" || !url.startsWith(scope)) return;
  const path = url.slice(scope.length).replace(/[?#].*/, "") || "index.html";
  if (Object.hasOwn(SITE.files, path)) event.respondWith(answer(path, event.request));
});
