// Python in a worker: a page asks, and nothing that it shows waits for the answer.
//
//   to the page:    {progress, share} while Python starts, then {ready: true}, or {error}
//                   {fetched}: a file that Python waited for
//   from the page:  {id, ask}, answered with {id, answer}; an ask that is text gets text back
//                   {id, part}: what is known before, where the ask is for it
//                   {left}: where the page writes the id of an ask that it gives up; where they
//                   share memory. Python looks there as it searches, and answers with null
//
// A visit begins with the memory of a Python that has imported everything (snapshot.mjs). Where a
// browser cannot take that up, Python starts from its files. Those that describe a class of networks
// are fetched when Python first opens them; it waits for them.
import { SITE } from "./site.js";

const PLACE = "/lib/weighbridge";
const WORDS = {
  en: { load: "Loading Python", start: "Starting Python", slow: "Starting Python from its files", broken: "this question needs more memory than a browser gives: ask it with `weighbridge` on a computer", lost: "a file of this page cannot be fetched: check the network and ask again, or load the page anew" },
  zh: { load: "正在加载 Python", start: "正在启动 Python", slow: "正在从文件启动 Python", broken: "此问题需要的内存超出浏览器所能提供的：请在电脑上用 `weighbridge` 提问", lost: "无法获取此页面的一个文件：请检查网络后再次提问，或重新加载页面" },
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

const EIO = 29; // Emscripten's number for what Python raises as OSError
let lost = ""; // what could not be fetched for the ask under way

/** What a file holds; Python waits. @param {{ path: string, bytes: number }} file @returns {Uint8Array | null} */
function fetched({ path, bytes }) {
  const request = new XMLHttpRequest();
  request.open("GET", new URL(path, import.meta.url), false);
  request.responseType = "arraybuffer";
  try {
    request.send();
  } catch {
    return null;
  }
  if (request.status !== 200 || request.response?.byteLength !== bytes) return null;
  postMessage({ fetched: path });
  return new Uint8Array(request.response);
}

/** A file that is fetched when it is first opened; Emscripten's own (createLazyFile) ends Python where that fails. @param {any} FS @param {string} place @param {{ path: string, bytes: number }} file */
function fetchable(FS, place, file) {
  FS.mkdirTree(place.slice(0, place.lastIndexOf("/")));
  FS.writeFile(place, "");
  const { node } = FS.lookupPath(place);
  const usual = node.stream_ops;
  const open = (/** @type {any} */ stream) => {
    const data = fetched(file);
    if (!data) {
      lost = file.path;
      FS.closeStream(stream.fd);
      throw new FS.ErrnoError(EIO);
    }
    Object.assign(node, { contents: data, usedBytes: data.length, stream_ops: usual });
  };
  node.stream_ops = { ...usual, open };
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
  for (const [name, file] of Object.entries(SITE.later)) fetchable(python.FS, `${PLACE}/${name}`, file);
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
  lost = "";
  try {
    const whole = answer(line, () => !left || Atomics.load(left, 0) !== id, (/** @type {string} */ told) => postMessage({ id, ...JSON.parse(told) }));
    return lost ? JSON.stringify({ error: { code: 2, message: `${words.lost} (${lost})` } }) : whole;
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
