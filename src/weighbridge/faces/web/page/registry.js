// The tab of a dataset: which of its models fit which card. Nothing is estimated here, and no Python
// is started. Whatever a dataset says is text.
import { html, useEffect, useMemo, useRef, useState } from "./vendor/htm-preact.js";
import { DatasetError, dataset } from "./dataset.js";
import { Sign } from "./parts.js";
import { Scrolled } from "./result.js";
import { size } from "./sizes.js";
/** @import { Answers, OneAnswer, ScanQuestion, Values, Words } from "./types.js" */
/** @import { Dataset } from "./dataset.js" */

export const BASE = "registry/";
const PAGE = 100; // rows that are shown, and so many more at a time
const TYPING = 250; // milliseconds without a key until names that were not read are searched
const FURTHER = 8; // groups of models that are read by one press
const VERDICTS = ["yes", "no", "unknown", "refused"];
const WORDS = /[^\s]+/g;

/** @typedef {{ parameters: (number | null)[], smallest: (string | null)[], answers: Answers }} Facts what is known of keys */

/** @param {{ words: Words, unit: string, given: Values, set: (values: Values) => void }} props */
export function Registry({ words, unit, given, set }) {
  const [data, setData] = useState(/** @type {Dataset | null} */ (null));
  const [problem, setProblem] = useState(/** @type {Error | null} */ (null));
  const [facts, setFacts] = useState(/** @type {{ name: string, are: Facts } | null} */ (null));
  const [read, setRead] = useState(0); // models that were read
  const [reading, setReading] = useState(false);
  const [found, setFound] = useState(/** @type {{ found: number, read: number } | null} */ (null)); // by a search, behind those
  const [searching, setSearching] = useState(false);
  const [tries, setTries] = useState(0);
  const [shown, setShown] = useState(PAGE);
  const alive = useRef(true);
  useEffect(() => () => { alive.current = false; }, []);

  useEffect(() => {
    setProblem(null);
    dataset(BASE).then((found) => found.first().then(() => {
      setRead(found.models);
      setData(found);
    })).catch(setProblem);
  }, [tries]);
  const question = data ? chosen(data.told.questions, given) : null;
  const name = question?.name ?? "";
  useEffect(() => {
    if (!data || !question) return;
    let left = false;
    factsOf(data, question).then((are) => left || setFacts({ name, are }), (error) => left || setProblem(error));
    return () => { left = true; };
  }, [data, name]);
  useEffect(() => setShown(PAGE), [name, given.id, given.fits, given.by]);
  const typed = (given.id ?? "").trim();
  useEffect(() => {
    setFound(null);
    if (!data?.searches() || !typed) return;
    let left = false;
    setSearching(true);
    const waited = setTimeout(() => {
      data.find(typed).then((are) => left || setFound(are), (error) => left || setProblem(error)).finally(() => left || setSearching(false));
    }, TYPING);
    return () => { left = true; clearTimeout(waited); setSearching(false); };
  }, [data, read, typed]);

  const now = facts?.name === name ? facts.are : null;
  const rows = useMemo(() => (data && now ? listed(data, now, given) : []), [data, now, read, found, given.id, given.fits, given.by]);
  const settled = Boolean(problem) || (Boolean(now) && !reading && !searching);
  if (problem) {
    return html`<section class="answers registry" data-settled="true"><div class="problem" role="alert"><p>${words[`dataset.${problem instanceof DatasetError ? problem.message : "gone"}`]}</p>
      <button type="button" onClick=${() => setTries(tries + 1)}>${words["again"]}</button></div></section>`;
  }
  if (!data || !question) return html`<section class="answers registry" data-settled="false" aria-busy="true"><p role="status">${words["registry.reading"]}</p></section>`;
  const { told } = data;
  /** @param {number} groups */
  const further = async (groups) => {
    setReading(true);
    try {
      for (let left = groups; left > 0 && alive.current && data.models < told.counts.models; left -= 1) {
        await data.more(1);
        setRead(data.models);
      }
    } catch (error) {
      setProblem(/** @type {Error} */ (error));
    }
    setReading(false);
  };
  return html`<section class="answers registry" aria-label=${words["answer"]} aria-busy=${settled ? "false" : "true"} data-settled=${settled}>
    <${Filters} words=${words} questions=${told.questions} question=${question} given=${given} set=${set} />
    <p class="dim told-of">${filled(words["registry.of"], { models: count(told.counts.models), source: told.source, version: told.weighbridge })}</p>
    <p role="status" id="registry-count">${now ? counted(words, rows, now, data) : words["registry.reading"]}</p>
    ${read < told.counts.models ? html`<p class="further">${filled(words["registry.some"], { read: count(read), models: count(told.counts.models) })}
      <button type="button" class="small" id="registry-further" disabled=${reading} onClick=${() => void further(FURTHER)}>${words["registry.further"]}</button>
      <button type="button" class="small" id="registry-all" disabled=${reading} onClick=${() => void further(Infinity)}>${filled(words["registry.all"], { size: `${(data.rest() / 1e6).toFixed(1)} MB` })}</button></p>` : null}
    ${found ? html`<p role="status" id="registry-found">${filled(words["registry.found"], { found: count(found.found), read: count(found.read) })}</p>` : null}
    ${now ? html`<div class="blocks"><${Table} words=${words} unit=${unit} data=${data} facts=${now} question=${question} rows=${rows.slice(0, shown)} given=${given} set=${set} />
      ${rows.length > shown ? html`<button type="button" id="registry-more" onClick=${() => setShown(shown + PAGE)}>${filled(words["registry.more"], { count: count(Math.min(PAGE, rows.length - shown)) })}</button>` : null}</div>` : null}
    <${Query} words=${words} question=${question.name} /></section>`;
}

/** What a terminal asks of the whole dataset. @param {{ words: Words, question: string }} props */
function Query({ words, question }) {
  const query = `select id, need from weighed where question = '${question.replaceAll("'", "''")}' and fits = 'yes' order by need desc`;
  return html`<details class="sql"><summary>SQL</summary><p>${words["sql.terminal"]}</p>
    <pre><code>${`weighbridge scan query DIR "${query}"`}</code></pre></details>`;
}

/** @param {Dataset} data @param {ScanQuestion} question @returns {Promise<Facts>} */
async function factsOf(data, question) {
  const [parameters, smallest, answers] = await Promise.all([data.parameters(), data.smallest(question.label), data.answers(question.name)]);
  return { parameters, smallest, answers };
}

/** Questions that differ in their card alone, the smallest card first. @param {ScanQuestion[]} questions @param {string} label */
function alike(questions, label) {
  const memory = (/** @type {ScanQuestion} */ one) => (one.usable ?? 0) * (one.card?.count ?? 1);
  return questions.filter((one) => one.label === label).sort((a, b) => memory(a) - memory(b));
}

/** What is asked: of a label the question about the card that was named, else about the middle one. @param {ScanQuestion[]} questions @param {Values} given @returns {ScanQuestion | null} */
export function chosen(questions, given) {
  const usual = questions.find((one) => one.task === "infer") ?? questions[0];
  const label = questions.some((one) => one.label === given.question) ? given.question : usual?.label;
  const some = alike(questions, label ?? "");
  return some.find((one) => isCard(one, given.gpu ?? "")) ?? some[Math.floor((some.length - 1) / 2)] ?? null;
}

/** Whether a card is the one that was typed: in the plan's words, by its id, or by the end of its name ("RTX 4090"). @param {ScanQuestion} question @param {string} typed */
function isCard({ card }, typed) {
  const wanted = plain(typed);
  return Boolean(card && wanted) && ([card?.typed, card?.id].some((one) => plain(one ?? "") === wanted) || plain(card?.name ?? "").endsWith(wanted));
}

/** Letters and digits alone. @param {string} text */
function plain(text) {
  return text.toLowerCase().replace(/[^a-z0-9]+/g, "");
}

/** The rows of models that are read and match, in order: numbers of models. @param {Dataset} data @param {Facts} facts @param {Values} given */
function listed(data, facts, given) {
  const { ids, keys, downloads } = data.read;
  const { models, beyond } = data;
  const parts = (given.id ?? "").toLowerCase().match(WORDS) ?? [];
  const fits = VERDICTS.includes(given.fits ?? "") ? given.fits : "";
  const found = [];
  /** @param {number} at */
  const matches = (at) => {
    const id = parts.length ? (ids[at] ?? "").toLowerCase() : "";
    return parts.every((part) => id.includes(part)) && (!fits || verdict(facts.answers.get(keys[at] ?? -1)) === fits);
  };
  for (let at = 0; at < models; at += 1) if (matches(at)) found.push(at);
  if (parts.length) found.push(...[...beyond].filter((at) => at >= models && matches(at)).sort((a, b) => a - b));
  const by = (given.by ?? "").replace(/^-/, "");
  const down = given.by?.startsWith("-");
  /** @type {Record<string, (at: number) => string | number | null | undefined>} */
  const columns = {
    id: (at) => ids[at],
    parameters: (at) => facts.parameters[keys[at] ?? -1],
    need: (at) => facts.answers.get(keys[at] ?? -1)?.need,
    smallest: (at) => order(data, facts.smallest[keys[at] ?? -1]),
    downloads: (at) => downloads[at],
  };
  const column = Object.hasOwn(columns, by) ? columns[by] : null;
  return column ? sorted(found, column, Boolean(down)) : found;
}

/** What is not known stays last, and rows that are alike stay as they are. @param {number[]} rows @param {(at: number) => string | number | null | undefined} column @param {boolean} down */
function sorted(rows, column, down) {
  const known = rows.map((at) => ({ at, key: column(at) ?? null }));
  return known.sort((a, b) => {
    if (a.key === null || b.key === null) return Number(a.key === null) - Number(b.key === null);
    const step = typeof a.key === "string" ? a.key.localeCompare(String(b.key), undefined, { numeric: true }) : a.key - Number(b.key);
    return down ? -step : step;
  }).map(({ at }) => at);
}

/** The memory of a card. @param {Dataset} data @param {string | null | undefined} typed */
function order(data, typed) {
  const one = data.told.questions.find(({ card }) => card?.typed === typed);
  return typed && one ? (one.usable ?? 0) * (one.card?.count ?? 1) : null;
}

/** @param {OneAnswer | undefined} answer */
function verdict(answer) {
  return answer?.fits ?? "refused";
}

/** How many of the rows have which verdict. @param {Words} words @param {number[]} rows @param {Facts} facts @param {Dataset} data */
function counted(words, rows, facts, data) {
  const tally = new Map(VERDICTS.map((one) => [one, 0]));
  for (const at of rows) {
    const one = verdict(facts.answers.get(data.read.keys[at] ?? -1));
    tally.set(one, (tally.get(one) ?? 0) + 1);
  }
  const told = VERDICTS.filter((one) => tally.get(one)).map((one) => `${count(tally.get(one) ?? 0)} ${words[`counted.${one}`]}`);
  return [filled(words["registry.count"], { count: count(rows.length) }), ...told].join(" · ");
}

/** @param {{ words: Words, questions: ScanQuestion[], question: ScanQuestion, given: Values, set: (values: Values) => void }} props */
function Filters({ words, questions, question, given, set }) {
  const labels = [...new Set(questions.map((one) => one.label))];
  const cards = alike(questions, question.label).filter((one) => one.card);
  const strange = given.gpu && !cards.some((one) => isCard(one, given.gpu ?? ""));
  /** @param {Event} e */
  const value = (e) => /** @type {HTMLInputElement | HTMLSelectElement} */ (e.target).value;
  return html`<form class="filters quick" aria-label=${words["form"]} onSubmit=${(/** @type {Event} */ e) => e.preventDefault()}>
    <div class="field"><label for="registry-pattern">${words["registry.search"]}</label>
      <input id="registry-pattern" type="text" autocomplete="off" spellcheck=${false} placeholder="qwen3 8b" value=${given.id ?? ""} onInput=${(/** @type {Event} */ e) => set({ id: value(e) })} /></div>
    <div class="field"><label for="registry-question">${words["registry.question"]}</label>
      <select id="registry-question" value=${question.label} onChange=${(/** @type {Event} */ e) => set({ question: value(e) })}>${labels.map((one) => html`<option key=${one} value=${one}>${spoken(words, questions.find((q) => q.label === one))}</option>`)}</select></div>
    <div class="field"><label for="registry-card">${words["registry.card"]}</label>
      <select id="registry-card" value=${question.card?.typed ?? ""} disabled=${!cards.length} onChange=${(/** @type {Event} */ e) => set({ gpu: value(e) })}>${cards.map((one) => html`<option key=${one.name} value=${one.card?.typed}>${cardName(one)}</option>`)}</select>
      ${strange ? html`<p class="error" role="status">${filled(words["registry.strange"], { card: given.gpu ?? "" })}</p>` : null}</div>
    <div class="field"><label for="registry-fits">${words["registry.fits"]}</label>
      <select id="registry-fits" value=${VERDICTS.includes(given.fits ?? "") ? given.fits : ""} onChange=${(/** @type {Event} */ e) => set({ fits: value(e) })}>
        <option value="">${words["registry.any"]}</option>${VERDICTS.map((one) => html`<option key=${one} value=${one}>${words[`fits.${one}`]}</option>`)}</select>
      <button type="button" class="small" id="registry-mine" onClick=${() => set({ fits: "yes", by: "-parameters", gpu: question.card?.typed ?? "" })}>${words["registry.mine"]}</button></div>
  </form>`;
}

/** A question without its card, in words. @param {Words} words @param {ScanQuestion | undefined} question */
function spoken(words, question) {
  if (!question) return "";
  const { settings, task, engine } = question;
  const asked = String(settings["method"] ?? "");
  const head = task === "infer" ? engine ?? "" : asked ? words[`asked.${asked}`] ?? words[`method.${asked}`] ?? asked : words[`asked.${task}`] ?? task;
  const rest = Object.entries(settings).filter(([name]) => !["gpu", "engine", "method"].includes(name));
  return [head, ...rest.map(([name, value]) => `${name.replaceAll("_", " ")} ${typeof value === "number" ? count(value) : String(value)}`)].join(", ");
}

/** "GeForce RTX 4090 × 2 · 23.5 GiB". @param {ScanQuestion} question */
function cardName({ card, usable }) {
  const times = card && card.count > 1 ? ` × ${card.count}` : "";
  return `${card?.name ?? ""}${times}${usable ? ` · ${size(usable, "GiB")}` : ""}`;
}

/** @param {{ words: Words, unit: string, data: Dataset, facts: Facts, question: ScanQuestion, rows: number[], given: Values, set: (values: Values) => void }} props */
function Table({ words, unit, data, facts, question, rows, given, set }) {
  const popular = data.read.downloads.some((one) => one !== null);
  const several = new Set(data.told.questions.map((one) => one.card?.typed)).size > 1;
  const columns = [
    { name: "id", head: words["model"], right: false },
    { name: "need", head: words["registry.need"], right: false },
    ...(several ? [{ name: "smallest", head: words["registry.smallest"], right: false }] : []),
    { name: "parameters", head: words["registry.parameters"], right: true },
    ...(popular ? [{ name: "downloads", head: words["registry.downloads"], right: true }] : []),
  ];
  const by = (given.by ?? "").replace(/^-/, "");
  const down = given.by?.startsWith("-");
  /** The first press puts the largest of numbers first, and the first of words; the third takes the order of the dataset. @param {string} name @param {boolean} right */
  const sort = (name, right) => {
    const first = right ? `-${name}` : name;
    const second = right ? name : `-${name}`;
    set({ by: given.by === first ? second : given.by === second ? "" : first });
  };
  return html`<${Scrolled} label=${words["table"]}><table class="grid"><caption class="unseen">${words["registry.table"]}</caption>
    <thead><tr>${columns.map(({ name, head, right }) => html`<th key=${name} scope="col" class=${right ? "right" : ""} aria-sort=${by === name ? (down ? "descending" : "ascending") : undefined}><button type="button" class="sorts" onClick=${() => sort(name, right)}>${head}</button></th>`)}</tr></thead>
    <tbody>${rows.map((at) => {
      const key = data.read.keys[at] ?? -1;
      const answer = facts.answers.get(key);
      const id = data.read.ids[at] ?? "";
      const unread = data.read.unread[at];
      return html`<tr key=${at}><th scope="row">${unread ? id : html`<a href=${ask(id, question)}>${id}</a>`}</th>
        <td><${Need} words=${words} unit=${unit} answer=${answer} unread=${unread ?? null} /></td>
        ${several ? html`<td class="short">${nameOf(data, facts.smallest[key])}</td>` : null}
        <td class="right short">${parameters(facts.parameters[key])}</td>
        ${popular ? html`<td class="right short">${data.read.downloads[at] === null ? "" : count(data.read.downloads[at] ?? 0)}</td>` : null}</tr>`;
    })}</tbody></table></${Scrolled}>`;
}

/** @param {{ words: Words, unit: string, answer: OneAnswer | undefined, unread: string | null }} props */
function Need({ words, unit, answer, unread }) {
  if (answer?.need === null || answer?.need === undefined) return html`<span class="dim reason">${unread ?? answer?.reason ?? words["fits.refused"]}</span>`;
  const range = answer.low === answer.high ? "" : ` (${size(answer.low, unit)} – ${size(answer.high, unit)})`;
  return html`<span class="short"><${Sign} mark=${answer.fits} words=${words} /> ${size(answer.need, unit)}</span><span class="dim range-told">${range}</span>`;
}

/** The address that asks about one model itself. @param {string} id @param {ScanQuestion} question */
function ask(id, question) {
  const { task } = question;
  const own = Object.fromEntries(Object.entries(question.settings).map(([name, value]) => [name, String(value)]));
  return `#${new URLSearchParams({ task, lang: document.documentElement.lang.slice(0, 2), model: id, ...own })}`;
}

/** @param {Dataset} data @param {string | null | undefined} typed */
function nameOf(data, typed) {
  const card = data.told.questions.find((one) => one.card?.typed === typed)?.card;
  return card ? card.name + (card.count > 1 ? ` × ${card.count}` : "") : "";
}

/** "8.03 B". @param {number | null | undefined} many */
function parameters(many) {
  if (!many) return "";
  const [scale, letter] = many >= 1e9 ? [1e9, "B"] : [1e6, "M"];
  return `${(many / scale).toLocaleString("en", { maximumSignificantDigits: 3 })} ${letter}`;
}

/** @param {number} many */
function count(many) {
  return many.toLocaleString("en");
}

/** A sentence with its values, which are a stranger's. @param {string | undefined} text @param {Record<string, string>} values */
function filled(text, values) {
  return (text ?? "").replace(/\{(\w+)\}/g, (all, name) => values[name] ?? all);
}
