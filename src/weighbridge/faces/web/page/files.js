// Files that are dropped or chosen: a config, a header, or requests of `weighbridge run`.
import { base64 } from "./engine.js";
import { ASKED, joined, MOST_BESIDE, spelled } from "./state.js";
/** @import { Ask, Dropped, Pasted, State, Variant, Words } from "./types.js" */

const LARGEST = 1 << 24; // bytes of a text file that is read
const WEIGHTS = /\.(safetensors|gguf)$/i;
const MESSAGES = /\.(log|txt|out|err)$/i;
const LONGEST = 1 << 22; // bytes of a log: its message is at the end
const LINES = /\.jsonl$/i;
const RUNS = /\.(ya?ml|toml|sh|bash|slurm|py|modelfile|md|text)$/i; // files that start a run

/**
 * @typedef {{ dropped: Dropped } | { log: Pasted } | { state: Partial<State>, notes?: string[] } | { error: string }} Opened
 * @typedef {(ask: Ask) => Promise<any>} Asker
 */

/**
 * What a file is: a model, or a state that its requests say.
 * @param {File} file @param {Words} words @param {Asker} ask @returns {Promise<Opened>}
 */
export async function opened(file, words, ask) {
  if (!file.size) return { error: told(words["file.empty"], file.name) };
  if (WEIGHTS.test(file.name)) return { dropped: { name: file.name, model: {}, file, key: "" } };
  if (MESSAGES.test(file.name)) return { log: { name: file.name, text: await file.slice(-LONGEST).text() } };
  if (file.size > LARGEST) return { error: told(words["file.large"], file.name) };
  if (LINES.test(file.name) || RUNS.test(file.name)) return requests(file, file.name, words, ask);
  const found = await object(file);
  if (!found) return { error: told(words["file.unknown"], file.name) };
  if ("task" in found) return requests(new Blob([JSON.stringify(found)]), `${file.name}l`, words, ask);
  return { dropped: { name: file.name, model: {}, file, key: "" } };
}

/** What was pasted, as a file without a name: its content tells what it is. @param {string} text */
export function pastedFile(text) {
  return new File([text], "pasted.text");
}

/** @param {string | undefined} text @param {string} name */
export function told(text, name) {
  return (text ?? "{name}").replace("{name}", () => name);
}

/** The object that a file of JSON holds; null is none. @param {File} file @returns {Promise<Record<string, unknown> | null>} */
async function object(file) {
  try {
    const found = JSON.parse(await file.text());
    return found && typeof found === "object" && !Array.isArray(found) ? found : null;
  } catch {
    return null;
  }
}

/** @param {Blob} blob @param {string} name @param {Words} words @param {Asker} ask @returns {Promise<Opened>} */
async function requests(blob, name, words, ask) {
  const file = { name, size: blob.size, head: await base64(blob) };
  const { asks, notes, error } = await ask({ task: "asks", file });
  if (!asks) return { error: error?.message ?? told(words["file.unknown"], name) };
  const task = asks[0]?.task;
  const alike = asks.every((/** @type {any} */ one) => one.task === task && typeof (one.model ?? "") === "string");
  if (!ASKED.includes(task) || !alike) return { error: told(words["file.mixed"], name) };
  const variants = asks.slice(0, MOST_BESIDE).map(variant);
  if (variants.length === 1) return { state: { task, ...variants[0] }, notes };
  return { state: { task: "compare", of: task, beside: variants }, notes };
}

/** @param {Record<string, any>} line @returns {Variant} */
function variant(line) {
  const said = Object.entries(line.workload ?? {}).filter(([, value]) => value !== null && value !== false);
  const given = Object.fromEntries(said.map(([name, value]) => [name, spelled(value)]));
  if (!given["command"]) return { model: line.model ?? "", given };
  return { model: "", given: { ...given, command: joined(given["command"]) } }; // which names the model
}
