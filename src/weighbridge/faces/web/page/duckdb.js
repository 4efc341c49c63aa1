// SQL in the page: DuckDB in a worker, which is fetched when the first query is asked. Its own
// reader of Parquet would come from elsewhere, so that rows are handed to it as text.
/** @import { Dataset } from "./dataset.js" */

export const MOST_ROWS = 1000; // of an answer
const WORKER = "sql/worker.";
const OUT = "answer.csv";
const TYPES = { text: "varchar", whole: "bigint" };
/** Columns of the tables, as the dataset has them. @type {Record<string, Record<string, "text" | "whole">>} */
const TABLES = {
  models: { id: "text", downloads: "whole", key: "whole", unread: "text", sha: "text" },
  keys: { number: "whole", parameters: "whole", models: "whole" },
  answers: {
    key: "whole", question: "text", task: "text", engine: "text", engine_version: "text", method: "text", format: "text", context: "whole",
    gpu: "text", count: "whole", fits: "text", need_low: "whole", need: "whole", need_high: "whole", usable: "whole", kv_per_token: "whole", basis: "text", reason: "text",
  },
};
const VIEWS = [
  "create view answers as select a.*, k.parameters from told a join keys k on k.number = a.key",
  "create view weighed as select m.id, m.sha, m.downloads, a.* from models m join answers a using (key)",
];
const CLOSED = ["set autoinstall_known_extensions = false", "set autoload_known_extensions = false"];

/** The files that this site was built with: the worker and the packed program; none where there are none. */
export function files() {
  const [worker, program] = (document.querySelector('meta[name="weighbridge-sql"]')?.getAttribute("content") ?? "").split(" ");
  return worker?.startsWith(WORKER) && program ? { worker, program } : null;
}

/** @type {Promise<Database> | null} */
let started = null;

/** DuckDB with the tables of a dataset, started once. @param {Dataset} data @returns {Promise<Database>} */
export function database(data) {
  started ??= start(data);
  started.catch(() => { started = null; });
  return started;
}

/** @param {Dataset} data */
async function start(data) {
  const found = files();
  if (!found) throw new Error("no DuckDB");
  const packed = await fetch(found.program);
  if (!packed.ok || !packed.body) throw new Error(`${found.program}: ${packed.status}`);
  const wasm = await new Response(packed.body.pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
  const address = URL.createObjectURL(new Blob([wasm], { type: "application/wasm" }));
  const made = new Database(new Worker(new URL(found.worker, location.href)));
  try {
    await made.ask("INSTANTIATE", [address, null]);
    await made.ask("OPEN", { path: ":memory:" });
    made.connection = await made.ask("CONNECT", null);
    for (const name of Object.keys(TABLES)) await made.fill(name, await data.table(`${name}.parquet`));
    for (const line of [...VIEWS, ...CLOSED]) await made.run(line);
  } finally {
    URL.revokeObjectURL(address);
  }
  return made;
}

export class Database {
  /** @param {Worker} worker */
  constructor(worker) {
    this.worker = worker;
    this.number = 0;
    /** @type {number | null} */
    this.connection = null;
    /** @type {Map<number, { done: (value: any) => void, failed: (error: Error) => void }>} */
    this.waiting = new Map();
    worker.onmessage = ({ data }) => this.heard(data);
    worker.onerror = (event) => {
      for (const { failed } of this.waiting.values()) failed(new Error(event.message));
      this.waiting.clear();
    };
  }

  /** @param {any} said */
  heard(said) {
    const who = this.waiting.get(said.requestId);
    if (!who || said.type === "LOG" || said.type === "INSTANTIATE_PROGRESS") return;
    this.waiting.delete(said.requestId);
    if (said.type === "ERROR") who.failed(new Error(said.data.message));
    else who.done(said.data);
  }

  /** @param {string} type @param {any} data @param {Transferable[]} [moved] @returns {Promise<any>} */
  ask(type, data, moved = []) {
    return new Promise((done, failed) => {
      const messageId = ++this.number;
      this.waiting.set(messageId, { done, failed });
      this.worker.postMessage({ messageId, type, data }, moved);
    });
  }

  /** @param {string} sql */
  run(sql) {
    return this.ask("RUN_QUERY", [this.connection, sql]);
  }

  /** Makes a table of rows. @param {string} name @param {Record<string, any>[]} rows */
  async fill(name, rows) {
    const columns = Object.entries(TABLES[name] ?? {});
    const text = rows.map((row) => columns.map(([column]) => cell(row[column])).join(",")).join("\n");
    const bytes = new TextEncoder().encode(`${columns.map(([column]) => column).join(",")}\n${text}\n`);
    const types = columns.map(([column, kind]) => `'${column}': '${TYPES[kind]}'`).join(", ");
    await this.ask("REGISTER_FILE_BUFFER", [`${name}.csv`, bytes], [bytes.buffer]);
    await this.run(`create table ${name === "answers" ? "told" : name} as select * from read_csv('${name}.csv', header = true, delim = ',', quote = '"', escape = '"', nullstr = '', allow_quoted_nulls = false, auto_detect = false, columns = {${types}})`);
  }

  /** The answer to a query: heads and rows, all of them text; null is none. @param {string} sql @returns {Promise<(string | null)[][]>} */
  async query(sql) {
    const bare = sql.trim().replace(/;\s*$/, "");
    await this.ask("REGISTER_FILE_BUFFER", [OUT, new Uint8Array(0)]); // DuckDB warns about a file that is not there
    await this.run(`copy (select * from (${bare}\n) limit ${MOST_ROWS}) to '${OUT}' (format csv, header true, force_quote *, use_tmp_file false)`);
    const answer = await this.ask("COPY_FILE_TO_BUFFER", OUT);
    await this.ask("DROP_FILE", OUT);
    return parsed(new TextDecoder().decode(answer));
  }
}

/** A value in CSV; what is not there is empty, and an empty text is quoted. @param {any} value */
function cell(value) {
  return value === null || value === undefined ? "" : typeof value === "string" ? `"${value.replaceAll("\0", "").replaceAll('"', '""')}"` : String(value);
}

/** Lines of CSV, whose values are quoted where they are there. @param {string} text */
export function parsed(text) {
  /** @type {(string | null)[][]} */
  const lines = [];
  /** @type {(string | null)[]} */
  let line = [];
  for (const [, quoted, between] of text.matchAll(/(?:"((?:[^"]|"")*)")?(,|\r?\n)/g)) {
    line.push(quoted === undefined ? null : quoted.replaceAll('""', '"'));
    if (between === ",") continue;
    lines.push(line);
    line = [];
  }
  return lines;
}
