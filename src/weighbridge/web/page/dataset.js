// A dataset that `weighbridge scan publish` wrote, read by ranges: of millions of models the page
// fetches the columns and the rows that it shows.
/** @import { Answers, Listed, Published, Read } from "./types.js" */
/** @import { AsyncBuffer, FileMetaData } from "./vendor/hyparquet/index.js" */

const SCHEMA = "weighbridge.registry/1";
const LIST = "registry.json";
const MODELS = "models.parquet";
const KEYS = "keys.parquet";
const ANSWERS = "answers.parquet";
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
    /** Models that were read, the first ones of the file. @type {Read} */
    this.read = { ids: [], keys: [], downloads: [], unread: [] };
    this.groups = 0; // of models that were read
    this.share = 1; // of the file of models, what the columns take that are read
    this.files = Object.fromEntries([MODELS, KEYS, ANSWERS].map((name) => [name, new Ranged(base + name, told.files[name])]));
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
        for (const row of rows) {
          this.read.ids.push(row.id);
          this.read.keys.push(row.key ?? -1);
          this.read.downloads.push(row.downloads === null ? null : Number(row.downloads));
          this.read.unread.push(row.unread);
        }
        this.groups = at + 1;
      }
    });
  }

  /** About how many bytes the models take that were not read yet. */
  rest() {
    return ((this.told.files[MODELS]?.bytes ?? 0) * (1 - this.read.ids.length / this.told.counts.models)) * this.share;
  }

  /** All bytes of the dataset. */
  bytes() {
    return Object.values(this.told.files).reduce((sum, one) => sum + one.bytes, 0);
  }

  /** All rows of a file. @param {string} name */
  async table(name) {
    const metadata = await this.metadata(name);
    return this.reader.parquetReadObjects({ file: this.file(name), metadata });
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
