// One question at a time to whoever answers: this Python behind a server, or Pyodide in a worker.
/** @import { Answer, Ask, Dropped, Engine, Form, Lang, Progress } from "./types.js" */

const TRIES = 4; // of a file whose header is longer than what was sent
const FIRST = 1 << 20; // bytes of a dropped file that are sent at first
const MOST = 1 << 27; // and at most
const LATE = 700; // milliseconds of an answer after which a second worker is made ready
const DEAF = 1000; // milliseconds that a worker has to end what was given up
const STILL = 40; // milliseconds without a newer question after which the older one is given up

/** The engine that this page was built for; Python starts with the first question. @param {Progress} progress @returns {Engine} */
export function engine(progress) {
  const meta = document.querySelector('meta[name="weighbridge-engine"]');
  const kind = meta?.getAttribute("content");
  if (kind !== "static") return served(kind === "space" ? kind : "served");
  /** @type {Engine | null} */
  let begun = null;
  return { kind: "static", ask: (object, signal, part) => (begun ??= inWorker(progress)).ask(object, signal, part) };
}

/** What the page shows where nothing is estimated, which a static site has as a file. @param {Lang} lang @returns {Promise<Form>} */
export async function bare(lang) {
  const reply = await fetch("first.json");
  return (await reply.json())[lang];
}

/** @param {"served" | "space"} kind @returns {Engine} */
function served(kind) {
  return {
    kind,
    async ask(object, signal, part) { // who is given up closes the connection, and the server ends the answer
      const headers = { "Content-Type": "application/json" };
      const reply = await fetch("ask", { method: "POST", headers, body: JSON.stringify(object), signal });
      return lastOf(reply, part);
    },
  };
}

/** The last line of a reply; those before it are parts. @param {Response} reply @param {(part: Answer) => void} [part] @returns {Promise<Answer>} */
async function lastOf(reply, part) {
  if (!reply.body) return reply.json();
  const text = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = ""; ; ) {
    const { done, value } = await text.read();
    if (done) return JSON.parse(rest);
    const lines = (rest + value).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) part?.(JSON.parse(line).part);
  }
}

/**
 * Where the page shares memory with its worker, Python hears that an ask is given up. Elsewhere that
 * ends the worker, and a second one stands ready once an answer takes its time.
 * @param {Progress} progress @returns {Engine}
 */
function inWorker(progress) {
  /** @type {Map<number, { object: object, part?: (part: Answer) => void, done: (answer: any) => void, failed: (error: Error) => void }>} */
  const waiting = new Map();
  /** Asks that were given up, and of which the worker has not said so. @type {Set<number>} */
  const leaving = new Set();
  let id = 0;
  /** @type {Error | null} */
  let dead = null;
  /** @type {Worker | null} */
  let spare = null;
  let interrupted = false; // who has done so once does it again
  const left = globalThis.crossOriginIsolated ? new Int32Array(new SharedArrayBuffer(4)) : null;
  /** @type {WeakSet<Worker>} */
  const ready = new WeakSet();
  let current = begun();

  function begun() {
    const worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
    if (left) worker.postMessage({ left });
    worker.onerror = (event) => die(worker, event.message || "worker.js");
    worker.onmessage = ({ data }) => {
      if (data.ready) ready.add(worker);
      if (data.error && data.id === undefined) die(worker, String(data.error));
      else if (worker === current) heard(data);
    };
    return worker;
  }

  /** @param {any} data */
  function heard(data) {
    if (typeof data.progress === "string") progress(data.progress, Number(data.share) || 0);
    else if (data.ready) {
      progress("", 1);
      askAll();
    } else if (data.fetched) {
      void controlled.then(() => fetch(data.fetched)).catch(() => {});
    } else if (data.part) {
      waiting.get(data.id)?.part?.(data.part);
    } else if (data.id !== undefined) {
      waiting.get(data.id)?.done(data.answer);
      waiting.delete(data.id);
      leaving.delete(data.id);
      if (interrupted) spare ??= begun();
      keep();
    }
  }

  /** @param {Worker} worker @param {string} message */
  function die(worker, message) {
    if (worker === spare) spare = null;
    if (worker !== current) return;
    dead = new Error(message);
    for (const { failed } of waiting.values()) failed(dead);
    waiting.clear();
  }

  function askAll() {
    for (const [number, { object }] of waiting) current.postMessage({ id: number, ask: object });
  }

  /** Lets the worker end one ask. @param {number} number */
  function leave(number) {
    if (!ready.has(current)) return;
    if (!left) return next();
    Atomics.store(left, 0, number);
    leaving.add(number);
    setTimeout(() => {
      if (leaving.has(number)) next();
    }, DEAF);
  }

  /** Ends the worker; what else it was asked is asked again. */
  function next() {
    leaving.clear();
    current.terminate();
    interrupted = true;
    current = spare ?? begun();
    spare = null;
    if (ready.has(current)) askAll();
  }

  return {
    kind: "static",
    ask(object, signal, part) {
      if (dead) return Promise.reject(dead);
      return new Promise((done, failed) => {
        const number = ++id;
        waiting.set(number, { object, ...(part ? { part } : {}), done, failed });
        if (ready.has(current)) current.postMessage({ id: number, ask: object });
        setTimeout(() => {
          if (!left && waiting.has(number) && ready.has(current)) spare ??= begun();
        }, LATE);
        signal?.addEventListener("abort", () => {
          if (!waiting.delete(number)) return;
          failed(signal.reason);
          leave(number);
        });
      });
    },
  };
}

let kept = false;
/** Once the service worker sees what is fetched: what Python fetched before is then kept as well. */
const controlled = new Promise((done) => {
  const { serviceWorker } = navigator;
  if (serviceWorker?.controller) done(null);
  else serviceWorker?.addEventListener("controllerchange", done);
});

/** Once there is an answer: the site is kept for visits without a network. */
function keep() {
  if (kept || !("serviceWorker" in navigator)) return;
  kept = true;
  navigator.serviceWorker.register(new URL("offline.js", import.meta.url)).catch(() => {});
}

/**
 * Asks, and sends more of a dropped file for as long as its header is longer than what was sent. A
 * file that was read once is named by its key.
 * @param {Engine} to @param {Ask} ask @param {Dropped | null} dropped @param {AbortSignal} [signal] @param {(part: Answer) => void} [part] @returns {Promise<Answer>}
 */
export async function answered(to, ask, dropped, signal, part) {
  let bytes = FIRST;
  for (let left = TRIES; ; left -= 1) {
    const answer = await to.ask(dropped ? await withModel(ask, dropped, bytes) : ask, signal, part);
    const more = answer.need?.bytes;
    if (!more || !left || more > MOST) {
      if (dropped && answer.file) dropped.key = answer.file;
      return answer;
    }
    if (dropped) dropped.key = "";
    bytes = Math.max(more, FIRST);
  }
}

/** An ask with a dropped file as its model, or as that of the ask that it exports. @param {Ask} ask @param {Dropped} dropped @param {number} bytes @returns {Promise<Ask>} */
async function withModel(ask, dropped, bytes) {
  const model = dropped.file ? { file: await piece(dropped.file, dropped.key, bytes) } : dropped.model;
  const of = /** @type {Ask | undefined} */ (ask.of);
  return of ? { ...ask, of: { ...of, model } } : { ...ask, model };
}

/** @param {File} file @param {string} key @param {number} bytes */
async function piece(file, key, bytes) {
  const { name, size } = file;
  return key ? { name, size, key } : { name, size, head: await base64(file.slice(0, bytes)) };
}

/** @param {Blob} blob @returns {Promise<string>} */
export function base64(blob) {
  return new Promise((done, failed) => {
    const reader = new FileReader();
    reader.onload = () => done(String(reader.result).replace(/^[^,]*,/, ""));
    reader.onerror = () => failed(reader.error);
    reader.readAsDataURL(blob);
  });
}

/**
 * A lane with one question under way: of those that wait only the newest is asked. While a slider
 * moves, what is under way is let end, so that the picture moves with it. It is given up once the
 * newest has stood still, and at once where it only looks for what helps.
 * @typedef {(signal: AbortSignal) => Promise<void>} Job
 */
export class Lane {
  constructor() {
    /** @type {{ job: Job, seeks: boolean } | null} */
    this.next = null;
    /** @type {{ seeks: boolean, stop: AbortController } | null} */
    this.running = null;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.still = undefined;
  }

  /** @param {Job} job @param {boolean} [seeks] */
  put(job, seeks = false) {
    this.next = { job, seeks };
    if (!this.running) void this.run();
    else this.newer();
  }

  /** What only looks for what helps is given up: a newer question is on its way. */
  hurry() {
    if (this.running?.seeks) this.running.stop.abort();
  }

  /** Nothing is asked any more. */
  leave() {
    this.next = null;
    this.newer();
  }

  newer() {
    clearTimeout(this.still);
    const { running } = this;
    if (running?.seeks) running.stop.abort();
    else if (running) this.still = setTimeout(() => running.stop.abort(), STILL);
  }

  async run() {
    while (this.next) {
      const { job, seeks } = this.next;
      this.next = null;
      this.running = { seeks, stop: new AbortController() };
      await job(this.running.stop.signal).catch(() => {}); // a job tells its own failures
      clearTimeout(this.still);
    }
    this.running = null;
  }
}
