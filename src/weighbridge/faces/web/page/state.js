// The state of the page, and the address that holds all of it (after the #: no server sees it).
/** @import { Ask, Change, Form, Lang, Setting, State, Tab, Values, Variant } from "./types.js" */

export const ASKED = ["fit", "load", "infer", "train", "image", "train_image"]; // tabs that are a question about a model
const SAME = new Map([["picture", "image"], ["video", "image"], ["picture_training", "train_image"]]); // other names of tabs
/** Tabs of pipelines that make pictures and video, by the tabs where their names are typed too. @type {Record<string, string>} */
const PIPELINES = { fit: "image", infer: "image", train: "train_image", image: "image", train_image: "train_image" };
export const OOM = "oom"; // the tab of a message
export const LISTS = ["gpus", "models", "accuracy"];
export const REGISTRY = "registry"; // the tab of a dataset
const FILTERS = ["id", "question", "gpu", "fits", "by"]; // of that tab
const TASKS = [...ASKED, ...LISTS, "compare", OOM, REGISTRY];
export const MOST_BESIDE = 12;
const LONGEST = 1 << 14; // characters of an address that are read
const OWN = new Set(["task", "model", "lang", "unit", "details", "file", "of", "with"]);
const MOST_STRANGE = 6; // settings of a link that are named as not known
const NAME = /^[a-z][a-z0-9_]{0,63}$/;

/** The tab of a question about a model: that of pipelines, where it is one that we know. @param {string} task @param {string} model @param {Form} form */
export function tabFor(task, model, form) {
  const pipeline = form.models.some((one) => one.makes && [one.name, one.label, ...one.spellings].includes(model));
  return (pipeline && PIPELINES[task]) || task;
}

/** The model that stays when another tab is opened: none where that tab is not about such ones. @param {string} task @param {string} model @param {Form} form */
export function modelOn(task, model, form) {
  const language = form.models.some((one) => !one.makes && one.name === model);
  return tabFor(task, model, form) === task && !(language && ofPipelines(task)) ? model : "";
}

/** Whether a tab is of pipelines alone. @param {string} task */
export function ofPipelines(task) {
  return PIPELINES[task] === task;
}

/** @returns {Lang} */
export function preferred() {
  return /^zh\b/i.test(navigator.language) ? "zh" : "en";
}

/** The state that an address says. @param {string} fragment @returns {State} */
export function read(fragment) {
  const said = new URLSearchParams(fragment.replace(/^#/, "").slice(0, LONGEST));
  const task = SAME.get(said.get("task") ?? "fit") ?? said.get("task") ?? "fit";
  const lang = said.get("lang");
  return {
    task: TASKS.includes(task) ? task : "fit",
    model: said.get("model") ?? "",
    given: settings(said),
    beside: said.getAll("with").slice(0, MOST_BESIDE).map(variant),
    of: ASKED.includes(said.get("of") ?? "") ? String(said.get("of")) : "fit",
    lang: lang === "zh" || lang === "en" ? lang : preferred(),
    unit: ["GiB", "GB", "MiB"].includes(said.get("unit") ?? "") ? String(said.get("unit")) : "",
    details: said.get("details") === "1",
    file: said.get("file") ?? "",
    strange: [...wrong(said), ...Object.keys(settings(said))],
  };
}

/** What an address says that nobody reads: a key twice, or a value that its key has not. @param {URLSearchParams} said */
function* wrong(said) {
  const known = { task: TASKS, of: ASKED, lang: ["en", "zh"], unit: ["GiB", "GB", "MiB"], details: ["1"] };
  const seen = new Set();
  for (const [name, value] of said) {
    if (seen.has(name) && name !== "with") yield `${name}=${value}`;
    else if (Object.hasOwn(known, name) ? !known[/** @type {keyof typeof known} */ (name)].includes(value) : !OWN.has(name) && !NAME.test(name)) yield `${name}=${value}`;
    seen.add(name);
  }
}

/** The settings of a link that no question has, in a line. @param {State} state @param {Form} form */
export function strangers(state, form) {
  const settings = new Set(["command", ...FILTERS, ...form.tabs.flatMap((tab) => settingsOf(form, tab.name)).map((one) => one.name)]);
  const unknown = state.strange.filter((name) => !settings.has(name));
  const all = [...new Set(unknown)].map((text) => (text.length > 40 ? `${text.slice(0, 40)}…` : text));
  return all.slice(0, MOST_STRANGE).join(", ") + (all.length > MOST_STRANGE ? ", …" : "");
}

const FIRST = /^\s*(?:[$%>]\s+)?(?:(?:export|set)\s+)?(?:[A-Za-z_]\w*=\S*\s+)*(?:\S*[\\/])?([\w.-]+?)(?:\.exe)?\s+\S/;
const TRAINS = /Trainer\w*\s*\(|TrainingArguments|get_peft_model|\.backward\s*\(/; // Python that is more than a call that loads

/** A launch command where a model was expected; "" is none. @param {string} text @param {Form["launches"]} known */
export function commandIn(text, known) {
  const first = FIRST.exec(text)?.[1] ?? "";
  const launches = known.words.includes(first) || (known.snippets.some((one) => new RegExp(one).test(text)) && !TRAINS.test(text));
  return launches ? joined(text) : "";
}

/** A command of several lines as one; the lines of Python are its statements. @param {string} text */
export function joined(text) {
  if (/\.from_pretrained\s*\(/.test(text)) return text.trim();
  return text.replace(/^\s*[$%>]\s+/, "").replace(/[\\^`]\s*\n/g, " ").replace(/\s+/g, " ").trim();
}

/** Whether a text is what a program prints when memory runs out: names have no blanks. @param {string} text */
export function isMessage(text) {
  return /\s/.test(text.trim()) && /memory|oom|alloc/i.test(text);
}

/** Tells whether a text is a question in words: a name has few. @param {string} text */
export function isQuestion(text) {
  const words = text.trim().split(/\s+/).length;
  return !/\n/.test(text.trim()) && !isText(text) && !/out of memory|error/i.test(text) && (words > 3 || /[\u4e00-\u9fff]/.test(text));
}

/** Tells whether a text is more than a name: of several lines, or with flags. @param {string} text */
export function isText(text) {
  return /\n\s*\S|\s--[a-z]|\s-[a-z]+\s/i.test(text.trim());
}

/** The config of a model; null is none. @param {string} text @returns {File | null} */
export function pastedConfig(text) {
  try {
    const found = JSON.parse(text);
    return found && typeof found === "object" && !Array.isArray(found) ? new File([text], "config.json") : null;
  } catch {
    return null;
  }
}

/** Tells whether a text is of lines with keys, as configs are. @param {string} text */
export function isRun(text) {
  return (text.match(/^[ \t]*["']?[\w.-]+["']?\s*[:=](\s|$)/gm) ?? []).length > 2;
}

/** @param {URLSearchParams} said @returns {Values} */
function settings(said) {
  /** @type {Values} */
  const found = Object.create(null);
  for (const [name, value] of said) if (!OWN.has(name) && NAME.test(name) && value) found[name] = value;
  return found;
}

/** @param {string} text @returns {Variant} */
function variant(text) {
  const said = new URLSearchParams(text);
  return { model: said.get("model") ?? "", given: settings(said) };
}

/** The address of a state: the settings that its question has. @param {State} state @param {Form | null} form */
export function write(state, form) {
  const said = new URLSearchParams({ task: state.task });
  if ([...ASKED, OOM].includes(state.task) && state.model) said.set("model", state.model);
  if (state.file) said.set("file", state.file);
  if (state.task === REGISTRY) {
    for (const name of FILTERS) if (state.given[name]) said.set(name, state.given[name] ?? "");
  } else for (const [name, value] of Object.entries(form ? sent(state, form) : state.given)) said.set(name, value);
  if (state.task === "compare") {
    said.set("of", state.of);
    for (const one of state.beside) {
      said.append("with", String(new URLSearchParams({ model: one.model, ...one.given })));
    }
  }
  if (state.lang !== preferred()) said.set("lang", state.lang);
  if (state.unit) said.set("unit", state.unit);
  if (state.details) said.set("details", "1");
  return `#${said}`;
}

/** @param {Form} form @param {string} task @returns {Tab} */
export function tabOf(form, task) {
  return form.tabs.find((tab) => tab.name === task) ?? { name: task, label: task, sections: [] };
}

/** Every setting of a tab. @param {Form} form @param {string} task */
export function settingsOf(form, task) {
  return tabOf(form, task).sections.flatMap((section) => section.settings);
}

/**
 * Whether a setting says something beside the others: where its engines hold the engine, and one of
 * its conditions is so ("this setting has one of these values"; none: "it was given").
 * @param {Setting} setting @param {Values} given @param {Setting[]} all
 */
export function relevant(setting, given, all) {
  /** @param {string} name */
  const effective = (name) => given[name] || String(all.find((one) => one.name === name)?.default ?? "");
  const engine = effective("engine") || "transformers";
  const asked = all.some((one) => one.name === "engine");
  if (asked && setting.engines.length && !setting.engines.includes(engine)) return false;
  const when = Object.entries(setting.when ?? {});
  return !when.length || when.some(([name, values]) => (values.length ? values.includes(effective(name)) : effective(name) !== ""));
}

/** The settings that are asked about: those of the tab that say something now. @param {State} state @param {Form} form */
export function sent(state, form) {
  return kept(state.given, form, state.task, state.task === "infer");
}

/** @param {Values} given @param {Form} form @param {string} task @param {boolean} [command] @returns {Values} */
export function kept(given, form, task, command = false) {
  const all = settingsOf(form, task);
  /** @type {Values} */
  const found = {};
  if (command && given.command) found.command = given.command;
  for (const setting of all) {
    const value = given[setting.name];
    const free = !found.command || BESIDE_A_COMMAND.has(setting.name);
    if (value && free && relevant(setting, given, all)) found[setting.name] = value;
  }
  return found;
}

export const BESIDE_A_COMMAND = new Set(["gpu", "gpu_memory", "headroom", "ram"]);

/** What an engine is asked of this state; null where nothing is named yet. @param {State} state @param {Form} form @param {boolean} [dropped] @param {string} [log] @returns {Ask | null} */
export function question(state, form, dropped = false, log = "") {
  if (state.task === REGISTRY) return null; // the page reads the dataset itself
  const view = { lang: state.lang, unit: state.unit || null, details: state.details };
  if (LISTS.includes(state.task)) return { task: state.task, workload: workload(state, form), view };
  if (state.task === "compare") {
    const asks = state.beside.filter((one) => one.model).map((one) => besides(one, state.of, form));
    return asks.length ? { task: "compare", asks, view } : null;
  }
  if (state.task === OOM) return log ? { task: OOM, log, model: state.model || null, workload: workload(state, form), view } : null;
  if (!state.model && !dropped && !(state.task === "infer" && state.given.command)) return null;
  const model = state.task === "infer" && state.given.command && !dropped ? null : state.model;
  const known = state.task === "image" && tabFor("fit", state.model, form) === "image"; // in whichever way it runs
  return { task: known ? "fit" : state.task, model, workload: workload(state, form), view };
}

/** @param {Variant} one @param {string} task @param {Form} form @returns {Ask} */
function besides(one, task, form) {
  return { task, model: one.model, workload: typed(kept(one.given, form, task), form, task) };
}

/** @param {State} state @param {Form} form */
function workload(state, form) {
  return typed(sent(state, form), form, state.task);
}

/** Flags are true or false; all else is read as it was written. @param {Values} values @param {Form} form @param {string} task */
function typed(values, form, task) {
  const flags = new Set(settingsOf(form, task).filter((s) => s.kind === "flag").map((s) => s.name));
  return Object.fromEntries(
    Object.entries(values).map(([name, value]) => [name, flags.has(name) ? value === "true" : value]),
  );
}

/**
 * The state after a change that a remedy proposes.
 * @param {State} state @param {Change} change @returns {State}
 */
export function changed(state, change) {
  if (state.task === "infer" && state.given.command) return changedCommand(state, change);
  const given = { ...state.given };
  for (const [name, value] of Object.entries(change)) given[name] = spelled(value);
  return { ...state, given };
}

/** @param {unknown} value */
export function spelled(value) {
  return Array.isArray(value) ? value.join(",") : value === null ? "" : String(value);
}

/** A pasted command gets the flag that it lacks. @param {State} state @param {Change} change @returns {State} */
function changedCommand(state, change) {
  const given = { ...state.given };
  for (const [name, value] of Object.entries(change)) {
    if (BESIDE_A_COMMAND.has(name)) given[name] = spelled(value);
    else given.command += flag(name, value);
  }
  return { ...state, given };
}

/** @param {string} name @param {unknown} value */
function flag(name, value) {
  if (value === false || value === null) return "";
  const said = value === true ? "" : ` ${spelled(value)}`;
  return ` --${name.replaceAll("_", "-")}${said}`;
}
