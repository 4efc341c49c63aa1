// Files that are dropped or chosen: a config, a header, or requests of `weighbridge run`.
import { ASKED, MOST_BESIDE, spelled } from "./state.js";
/** @import { Dropped, State, Variant, Words } from "./types.js" */

const LARGEST = 1 << 24; // bytes of a text file that is read
const WEIGHTS = /\.(safetensors|gguf)$/i;

/**
 * What a file is: a model, or a state that its requests say.
 * @param {File} file @param {Words} words
 * @returns {Promise<{ dropped: Dropped } | { state: Partial<State> } | { error: string }>}
 */
export async function opened(file, words) {
  if (WEIGHTS.test(file.name)) return { dropped: { name: file.name, model: {}, file } };
  if (file.size > LARGEST) return { error: told(words["file.large"], file.name) };
  const text = await file.text();
  try {
    const lines = objects(text);
    const first = lines[0];
    if (first && "task" in first) return requests(lines, file.name, words);
    if (first && lines.length === 1) return { dropped: { name: file.name, model: { config: first }, file: null } };
  } catch {
    // said below
  }
  return { error: told(words["file.unknown"], file.name) };
}

/** @param {string | undefined} text @param {string} name */
export function told(text, name) {
  return (text ?? "{name}").replace("{name}", name);
}

/** The objects of JSON, or of JSON Lines. @param {string} text @returns {Record<string, any>[]} */
function objects(text) {
  let found;
  try {
    found = [JSON.parse(text)].flat();
  } catch {
    found = text.split("\n").filter((line) => line.trim()).map((line) => JSON.parse(line));
  }
  if (!found.every((one) => one && typeof one === "object" && !Array.isArray(one))) throw new TypeError();
  return found;
}

/** @param {Record<string, any>[]} lines @param {string} name @param {Words} words */
function requests(lines, name, words) {
  const task = lines[0]?.task;
  if (!ASKED.includes(task) || lines.some((one) => one.task !== task || typeof (one.model ?? "") !== "string")) {
    return { error: told(words["file.mixed"], name) };
  }
  const variants = lines.slice(0, MOST_BESIDE).map(variant);
  const first = variants[0];
  if (variants.length === 1 && first) return { state: { task, ...first } };
  return { state: { task: "compare", of: task, beside: variants } };
}

/** @param {Record<string, any>} line @returns {Variant} */
function variant(line) {
  const said = Object.entries(line.workload ?? {}).filter(([, value]) => value !== null && value !== false);
  return { model: line.model ?? "", given: Object.fromEntries(said.map(([name, value]) => [name, spelled(value)])) };
}
