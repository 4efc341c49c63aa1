// One question at a time to whoever answers: this Python behind a server, or Pyodide in a worker.
/** @import { Answer, Ask, Dropped, Engine, Progress } from "./types.js" */

const TRIES = 4; // of a file whose header is longer than what was sent
const FIRST = 1 << 20; // bytes of a dropped file that are sent at first
const MOST = 1 << 27; // and at most

/** The engine that this page was built for. @param {Progress} progress @returns {Engine} */
export function engine(progress) {
  const meta = document.querySelector('meta[name="weighbridge-engine"]');
  return meta?.getAttribute("content") === "static" ? inWorker(progress) : served();
}

/** @returns {Engine} */
function served() {
  return {
    kind: "served",
    async ask(object) {
      const headers = { "Content-Type": "application/json" };
      const reply = await fetch("ask", { method: "POST", headers, body: JSON.stringify(object) });
      return reply.json();
    },
  };
}

/** @param {Progress} progress @returns {Engine} */
function inWorker(progress) {
  const worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
  /** @type {Map<number, { done: (answer: any) => void, failed: (error: Error) => void }>} */
  const waiting = new Map();
  let id = 0;
  /** @type {Error | null} */
  let dead = null;
  /** @param {string} message */
  const die = (message) => {
    dead = new Error(message);
    for (const { failed } of waiting.values()) failed(dead);
    waiting.clear();
  };
  worker.onerror = (event) => die(event.message || "worker.js");
  worker.onmessage = ({ data }) => {
    if (typeof data.progress === "string") progress(data.progress, Number(data.share) || 0);
    else if (data.ready) progress("", 1);
    else if (data.id !== undefined) {
      waiting.get(data.id)?.done(data.answer);
      waiting.delete(data.id);
      keep();
    } else if (data.error) die(String(data.error));
  };
  return {
    kind: "static",
    ask(object) {
      if (dead) return Promise.reject(dead);
      return new Promise((done, failed) => {
        waiting.set(++id, { done, failed });
        worker.postMessage({ id, ask: object });
      });
    },
  };
}

let kept = false;

/** Once there is an answer: the site is kept for visits without a network. */
function keep() {
  if (kept || !("serviceWorker" in navigator)) return;
  kept = true;
  navigator.serviceWorker.register(new URL("offline.js", import.meta.url)).catch(() => {});
}

/**
 * Asks, and sends more of a dropped file for as long as its header is longer than what was sent. A
 * file that was read once is named by its key.
 * @param {Engine} to @param {Ask} ask @param {Dropped | null} dropped @returns {Promise<Answer>}
 */
export async function answered(to, ask, dropped) {
  let bytes = FIRST;
  for (let left = TRIES; ; left -= 1) {
    const answer = await to.ask(dropped ? await withModel(ask, dropped, bytes) : ask);
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
 * A lane with one question under way: of those that wait only the newest is asked, so that a slider
 * moves the picture while it moves, and an older answer never follows a newer one.
 */
export class Lane {
  constructor() {
    /** @type {(() => Promise<void>) | null} */
    this.next = null;
    this.running = false;
  }

  /** @param {() => Promise<void>} job */
  put(job) {
    this.next = job;
    if (!this.running) void this.run();
  }

  async run() {
    this.running = true;
    try {
      while (this.next) {
        const job = this.next;
        this.next = null;
        await job();
      }
    } finally {
      this.running = false;
    }
  }
}
