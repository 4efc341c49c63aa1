// A dataset that `weighbridge scan publish` wrote, read by ranges: of millions of models the page
// fetches the columns and the rows that it shows.
/** @import { Answers, Listed, Published, Read } from "./types.js" */
/** @import { AsyncBuffer, FileMetaData } from "./vendor/hyparquet/index.js" */

const SCHEMA = "weighbridge.registry/1";
const LIST = "registry.json";
const MODELS = "models.parquet";
const KEYS = "keys.parquet";
const ANSWERS = "answers.parquet";
const NAMES = "names.parquet"; // the words of names, of a large dataset
const WORD = /[\p{L}\p{N}]+/gu; // as scan/naming.py has them
const MOST = 16; // groups of words that are read for one of a search: more of the name says it sooner
const SHOWN = 50; // models of a search that are read
const COLUMNS = ["id", "downloads", "key", "unread"]; // of models
const SMALLEST = "smallest/";
const WHOLE = 1 << 26; // bytes of a file that is taken whole where a server knows no ranges

/** What is wrong with a dataset, by the end of a word: dataset.none. */
export class DatasetError extends Error {}

/** @type {Map<string, Promise<Dataset>>} */
const opened = new Map();

/** The dataset of a folder, opened once. @param {string} base its address, which ends with a slash @returns {Promise<Dataset>} */
export function dataset(base) {
  const found = opened.get(base) ?? open(base);
  opened.set(base, found);
  found.catch(() => opened.delete(base)); // another try asks again
  return found;
}

/** @param {string} base */
async function open(base) {
  const reply = await fetch(base + LIST).catch(() => null);
  if (!reply?.ok) throw new DatasetError("none");
  /** @type {Published} */
  const told = await reply.json().catch(() => ({}));
  if (told.schema !== SCHEMA) throw new DatasetError("other");
  return new Dataset(base, told, await import("./vendor/hyparquet/index.js"));
}

export class Dataset {
  /** @param {string} base @param {Published} told @param {typeof import("./vendor/hyparquet/index.js")} reader */
  constructor(base, told, reader) {
    this.told = told;
    this.reader = reader;
    /** Models that were read, by their rows: the first ones of the file, and what searches found. @type {Read} */
    this.read = { ids: [], keys: [], downloads: [], unread: [] };
    this.groups = 0; // of models that were read one after the other
    this.models = 0; // in these groups
    /** Rows behind them that a search found. @type {Set<number>} */
    this.beyond = new Set();
    this.share = 1; // of the file of models, what the columns take that are read
    this.files = Object.fromEntries([MODELS, KEYS, ANSWERS].map((name) => [name, new Ranged(base + name, told.files[name])]));
    if (told.files[NAMES]) this.files[NAMES] = new Ranged(base + NAMES, told.files[NAMES]);
    /** @type {Map<string, Promise<any>>} */
    this.kept = new Map();
  }

  /** Reads once; what has failed is tried again. @param {string} name @param {() => Promise<any>} work @returns {Promise<any>} */
  once(name, work) {
    const found = this.kept.get(name) ?? work();
    this.kept.set(name, found);
    found.catch(() => this.kept.delete(name));
    return found;
  }

  /** The list of a file's columns. @param {string} name @returns {Promise<FileMetaData>} */
  metadata(name) {
    const file = this.file(name);
    return this.once(name, () => this.reader.parquetMetadataAsync(file, { initialFetchSize: file.footer }));
  }

  /** @param {string} name @returns {Ranged} */
  file(name) {
    return /** @type {Ranged} */ (this.files[name]);
  }

  /** Some columns of some rows. @param {string} name @param {string[]} columns @param {number} rowStart @param {number} rowEnd */
  async rows(name, columns, rowStart, rowEnd) {
    const metadata = await this.metadata(name);
    return this.reader.parquetReadObjects({ file: this.file(name), metadata, columns, rowStart, rowEnd });
  }

  /** Reads further models: so many groups of them. @param {number} groups */
  more(groups) {
    const from = this.groups;
    return this.once(`models ${from} ${groups}`, async () => {
      const listed = (await this.metadata(MODELS)).row_groups;
      const sizes = listed.map((one) => Number(one.num_rows));
      const sum = (/** @type {number[]} */ some) => some.reduce((a, b) => a + b, 0);
      const taken = listed.flatMap((one) => one.columns).filter((one) => COLUMNS.includes(one.meta_data?.path_in_schema[0] ?? ""));
      this.share = sum(taken.map((one) => Number(one.meta_data?.total_compressed_size ?? 0))) / this.file(MODELS).byteLength;
      for (let at = from; at < Math.min(from + groups, sizes.length); at += 1) {
        const start = sum(sizes.slice(0, at));
        const rows = await this.rows(MODELS, COLUMNS, start, start + (sizes[at] ?? 0));
        rows.forEach((row, below) => this.keep(start + below, row));
        this.groups = at + 1;
        this.models = start + rows.length;
      }
    });
  }

  /** @param {number} at @param {Record<string, any>} row */
  keep(at, row) {
    this.read.ids[at] = row.id;
    this.read.keys[at] = row.key ?? -1;
    this.read.downloads[at] = row.downloads === null ? null : Number(row.downloads);
    this.read.unread[at] = row.unread;
  }

  /** Whether there are names that were not read, and a way to search them. */
  searches() {
    return Boolean(this.files[NAMES]) && this.models < this.told.counts.models;
  }

  /** Finds models that were not read yet by how words of their names begin, and reads those that are downloaded most.
   * @param {string} typed @returns {Promise<{ found: number, read: number } | null>} null: too many names begin so */
  async find(typed) {
    const words = [...new Set(typed.toLowerCase().match(WORD) ?? [])];
    if (!words.length) return null;
    const narrow = (await Promise.all(words.map((word) => this.having(word)))).filter((one) => one !== null);
    const [first, ...others] = narrow.sort((a, b) => a.size - b.size);
    if (!first) return null;
    const rows = [...first].filter((at) => at >= this.models && others.every((one) => one.has(at))).sort((a, b) => a - b);
    const shown = rows.slice(0, SHOWN);
    await Promise.all(shown.filter((at) => !this.beyond.has(at)).map((at) => this.single(at)));
    return { found: rows.length, read: shown.length };
  }

  /** The rows of models with a word that begins so; null where they are too many to read. @param {string} word @returns {Promise<Set<number> | null>} */
  async having(word) {
    const last = word + "\uffff";
    const groups = (await this.metadata(NAMES)).row_groups;
    let start = 0;
    /** @type {number[][]} */
    const ranges = [];
    for (const group of groups) {
      const { min_value: low, max_value: high } = group.columns[0]?.meta_data?.statistics ?? {};
      const end = start + Number(group.num_rows);
      if (String(low) <= last && String(high) >= word) ranges.push([start, end]);
      start = end;
    }
    if (ranges.length > MOST) return null;
    /** @type {Set<number>} */
    const found = new Set();
    for (const [from = 0, to = 0] of ranges) {
      const rows = await this.once(`names ${from}`, () => this.rows(NAMES, ["word", "model"], from, to));
      for (const row of rows) if (row.word.startsWith(word)) found.add(row.model);
    }
    return found;
  }

  /** Reads one model, by the pages that have it. @param {number} at */
  async single(at) {
    const metadata = await this.metadata(MODELS);
    const [row] = await this.reader.parquetReadObjects({ file: this.file(MODELS), metadata, columns: COLUMNS, rowStart: at, rowEnd: at + 1, useOffsetIndex: true });
    if (!row) throw new DatasetError("changed");
    this.keep(at, row);
    this.beyond.add(at);
  }

  /** About how many bytes the models take that were not read yet. */
  rest() {
    return ((this.told.files[MODELS]?.bytes ?? 0) * (1 - this.models / this.told.counts.models)) * this.share;
  }

  /** The first models, where none were read yet. */
  async first() {
    if (!this.groups) await this.more(1);
  }

  /** The parameters of each key, by its number. @returns {Promise<(number | null)[]>} */
  parameters() {
    return this.once("parameters", () => this.ofKeys("parameters", (value) => (value === null ? null : Number(value))));
  }

  /** The smallest card on which each key fits. @param {string} label of a question @returns {Promise<(string | null)[]>} */
  smallest(label) {
    return this.once(SMALLEST + label, () => this.ofKeys(SMALLEST + label, (value) => value));
  }

  /** @param {string} column @param {(value: any) => any} as */
  async ofKeys(column, as) {
    const rows = await this.rows(KEYS, [column], 0, this.told.counts.keys);
    return rows.map((row) => as(row[column] ?? null));
  }

  /** The answers to one question, by the numbers of keys. @param {string} name @returns {Promise<Answers>} */
  answers(name) {
    return this.once(`answers ${name}`, async () => {
      const at = this.told.questions.findIndex((one) => one.name === name);
      const start = this.told.questions.slice(0, at).reduce((sum, one) => sum + one.rows, 0);
      const rows = await this.rows(ANSWERS, ["key", "fits", "need_low", "need", "need_high", "reason"], start, start + (this.told.questions[at]?.rows ?? 0));
      /** @type {Answers} */
      const found = new Map();
      for (const { key, fits, need_low: low, need, need_high: high, reason } of rows) {
        found.set(key, { fits, reason, need: need === null || need === undefined ? null : Number(need), low: Number(low), high: Number(high) });
      }
      return found;
    });
  }
}

/** A file whose parts are fetched; whole, and once, from a server that knows no ranges. @implements {AsyncBuffer} */
class Ranged {
  /** @param {string} address @param {Listed | undefined} listed */
  constructor(address, listed) {
    if (!listed) throw new DatasetError("other");
    this.address = address;
    this.byteLength = listed.bytes;
    this.footer = listed.footer;
    /** @type {Promise<ArrayBuffer> | null} */
    this.whole = null;
  }

  /** @param {number} start @param {number} [end] @returns {Promise<ArrayBuffer>} */
  async slice(start, end = this.byteLength) {
    if (this.whole) return (await this.whole).slice(start, end);
    const reply = await fetch(this.address, { headers: { Range: `bytes=${start}-${end - 1}` } });
    if (reply.status === 206) return this.part(reply, end - start);
    if (!reply.ok) throw new DatasetError("gone");
    if (this.byteLength > WHOLE) {
      void reply.body?.cancel();
      throw new DatasetError("ranges");
    }
    this.whole ??= reply.arrayBuffer().then((all) => this.checked(all, this.byteLength));
    return (await this.whole).slice(start, end);
  }

  /** @param {Response} reply @param {number} bytes */
  async part(reply, bytes) {
    const all = /\/(\d+)$/.exec(reply.headers.get("Content-Range") ?? "")?.[1];
    if (all && Number(all) !== this.byteLength) throw new DatasetError("changed");
    return this.checked(await reply.arrayBuffer(), bytes);
  }

  /** @param {ArrayBuffer} found @param {number} bytes */
  checked(found, bytes) {
    if (found.byteLength !== bytes) throw new DatasetError("changed");
    return found;
  }
}
