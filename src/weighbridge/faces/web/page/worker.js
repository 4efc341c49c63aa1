// Python in a worker: a page asks, and nothing that it shows waits for the answer.
//
//   to the page:    {progress, share} while Python starts, then {ready: true}, or {error}
//   from the page:  {id, ask}, answered with {id, answer}; an ask that is text gets text back
//                   {id, part}: what is known before, where the ask is for it
//                   {left}: where the page writes the id of an ask that it gives up; where they
//                   share memory. Python looks there as it searches, and answers with null
//
// A visit begins with the memory of a Python that has imported everything (snapshot.mjs). Where a
// browser cannot take that up, Python starts from its files.
import { SITE } from "./site.js";

const PLACE = "/lib/weighbridge";
const WORDS = {
  en: { load: "Loading Python", start: "Starting Python", slow: "Starting Python from its files", broken: "this question needs more memory than a browser gives: ask it with `weighbridge` on a computer" },
  zh: { load: "正在加载 Python", start: "正在启动 Python", slow: "正在从文件启动 Python", broken: "此问题需要的内存超出浏览器所能提供的：请在电脑上用 `weighbridge` 提问" },
};
const words = (navigator.language || "").startsWith("zh") ? WORDS.zh : WORDS.en;
const total = Object.values(SITE.engine).reduce((sum, file) => sum + file.bytes, 0);
let loaded = 0;
let told = 0;

/** @param {string} progress */
const tell = (progress) => postMessage({ progress, share: Math.min(1, loaded / total) });

/** What a file holds, as a stream; the page hears how far it is. @param {string} name */
async function stream(name) {
  const { path } = SITE.engine[name];
  const response = await fetch(new URL(path, import.meta.url));
  if (!response.ok || !response.body) throw new Error(`${path}: the server answers ${response.status}`);
  const counted = new TransformStream({
    transform(chunk, to) {
      loaded += chunk.byteLength;
      if (loaded - told > 1 << 18) {
        told = loaded;
        tell(words.load);
      }
      to.enqueue(chunk);
    },
  });
  return response.body.pipeThrough(counted).pipeThrough(new DecompressionStream("gzip"));
}

/** @param {string} name @returns {Promise<Uint8Array>} */
async function bytes(name) {
  return new Uint8Array(await new Response(await stream(name)).arrayBuffer());
}

/** Pyodide fetches two files by names of its own: here they are. @param {Record<string, () => Promise<Response>>} files */
function serve(files) {
  const before = self.fetch;
  self.fetch = (what, ...more) => {
    const name = String(what).split("/").pop() ?? "";
    return Object.hasOwn(files, name) ? files[name]() : before(what, ...more);
  };
}

/** The names and contents of a tar archive. @param {Uint8Array} archive */
function* members(archive) {
  const text = new TextDecoder();
  const field = (start, length) => text.decode(archive.subarray(start, start + length)).replace(/\0.*/s, "");
  for (let at = 0; at + 512 <= archive.length && archive[at]; ) {
    const size = parseInt(field(at + 124, 12), 8);
    const folder = field(at + 345, 155);
    yield [folder ? `${folder}/${field(at, 100)}` : field(at, 100), archive.subarray(at + 512, at + 512 + size)];
    at += 512 * (1 + Math.ceil(size / 512));
  }
}

/** @param {any} python @param {Uint8Array} archive */
function unpack(python, archive) {
  for (const [name, data] of members(archive)) {
    const path = `${PLACE}/${name}`;
    python.FS.mkdirTree(path.slice(0, path.lastIndexOf("/")));
    python.FS.writeFile(path, data);
  }
}

/** @param {any} load @param {Uint8Array | null} snapshot */
function begin(load, snapshot) {
  return load({
    indexURL: new URL("engine/", import.meta.url).href,
    lockFileContents: { info: SITE.info, packages: {} },
    env: { HOME: "/home/page", PYTHONHASHSEED: "0", PYTHONDONTWRITEBYTECODE: "1" },
    stdout: () => {},
    stderr: () => {},
    ...(snapshot ? { _loadSnapshot: snapshot } : {}),
  });
}

async function start() {
  tell(words.load);
  const wasm = stream("wasm");
  const [library, archive, snapshot] = ["library", "package", "snapshot"].map(bytes);
  const later = [wasm, library, archive, snapshot];
  for (const promise of later) promise.catch(() => {}); // heard where it is awaited
  const [{ loadPyodide }] = await Promise.all(
    ["loader", "script"].map((name) => import(new URL(SITE.engine[name].path, import.meta.url).href)),
  );
  const begun = [wasm]; // a second start reads it again
  serve({
    "pyodide.asm.wasm": async () => {
      const body = await (begun.pop() ?? stream("wasm"));
      return new Response(body, { headers: { "Content-Type": "application/wasm" } });
    },
    "python_stdlib.zip": async () => new Response(await library),
  });
  const python = await started(loadPyodide, await snapshot);
  unpack(python, await archive);
  return python.runPython(
    `import sys\nif ${JSON.stringify(PLACE)} not in sys.path: sys.path.insert(0, ${JSON.stringify(PLACE)})\n` +
      `from weighbridge.faces.web.worker import answering\nanswering(${JSON.stringify(SITE.hub)})`,
  );
}

async function started(load, snapshot) {
  tell(words.start);
  try {
    return await begin(load, snapshot);
  } catch (error) {
    console.warn(`the snapshot does not start here: ${error}`);
    tell(words.slow);
    return begin(load, null);
  }
}

let python = start();
python.then(
  () => postMessage({ ready: true }),
  (error) => postMessage({ error: String(error?.message ?? error).trim().split("\n").pop() }),
);

/** @type {Int32Array | null} */
let left = null;

/** One line for another. A failure that Python does not survive is an answer as well. @param {number} id @param {string} line */
async function answered(id, line) {
  const answer = await python;
  try {
    return answer(line, () => !left || Atomics.load(left, 0) !== id, (/** @type {string} */ told) => postMessage({ id, ...JSON.parse(told) }));
  } catch (error) {
    console.warn(`Python is started again: ${error}`);
    python = start();
    return JSON.stringify({ error: { code: 2, message: words.broken } });
  }
}

self.onmessage = async ({ data: { id, ask, left: shared } }) => {
  if (shared) {
    left = shared;
    return;
  }
  const plain = typeof ask === "string";
  const line = await answered(id, plain ? ask : JSON.stringify(ask)).catch(() => null);
  if (line !== null) postMessage({ id, answer: plain ? line : JSON.parse(line) });
};
