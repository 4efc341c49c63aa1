// An answer: the blocks of its screen in their order, and what the report holds behind them.
import { html, useLayoutEffect, useRef, useState } from "./vendor/htm-preact.js";
import { Filled, linked, markOf, NEEDS, offered, phaseOf, Phases, Sides, Sign, Weighed } from "./parts.js";
import { extent, Picture } from "./bars.js";
import { size } from "./sizes.js";
import { order } from "./sorting.js";
import { OOM, settingsOf, spelled } from "./state.js";
/** @import { Block, Cell, Change, Fit, Form, Grid, Headline, Lines, Paste, Question, Remedy, Report, Rung, Screen, Shown, Words } from "./types.js" */

/**
 * @typedef {{ shown: Shown, form: Form, unit: string, apply: (change: Change) => void,
 *   open: (task: string, change: Change) => void, seeking: boolean }} ResultProps
 */

const MESSAGE = { devices: [] }; // which holds no parts but those of its bar

const MADE = ["image", "video"]; // the question of fit that is about a pipeline
const STEPPED = ["train", "image", "train_image"]; // tasks whose phases are drawn

/** @param {ResultProps} props */
export function Result(props) {
  const { form } = props;
  const shown = ofPipeline(props.shown);
  const screen = shown.answer.screen;
  if (!screen) return null;
  const way = shown !== props.shown && props.shown.answer.report.plan?.why !== "asked"; // in which a pipeline is run, which is not as it was asked
  const lead = shown.task === "fit" || way;
  const steps = STEPPED.includes(shown.task) && !way ? phasesOf(screen, shown.answer.report) : null;
  const run = lead ? runOf(screen) : null;
  const drawn = [run, steps, shown.task === "fit" ? ladderOf(screen, shown.answer.report) : null];
  const rest = (lead ? screen.sections.slice(1) : screen.sections).map((section) => section.filter((block) => !drawn.includes(/** @type {any} */ (block)))).filter((section) => section.length);
  return html`<article class=${`result of-${shown.task}`}>
    ${lead ? null : html`<${Title} screen=${screen} />`}
    ${lead ? html`<section class="blocks answer"><${Lead} ...${props} run=${run} />${shown.task === "fit" ? html`<${Formats} ...${props} />` : null}</section>` : null}
    ${together(rest).map((section, at) => html`<${Section} key=${at} ...${props} shown=${shown} blocks=${section} first=${!lead && at === 0} steps=${steps} />`)}
    ${shown.task === "compare" ? html`<${Compared} ...${props} />` : null}
    ${screen.warnings.length ? html`<section class="warnings" aria-label=${form.words["warnings"]}><ul>
      ${screen.warnings.map((text, at) => html`<li key=${at}>${text}</li>`)}</ul></section>` : null}
    <footer class="assumed">${screen.footer.map((text, at) => html`<p key=${at}>${text}</p>`)}</footer>
  </article>`;
}

/** What was asked about; here a reader goes on once a button has changed it. @param {{ screen: Screen }} props */
function Title({ screen }) {
  return html`<h2 id="answer" tabindex="-1">${screen.title}</h2>`;
}

/** An answer of fit about a pipeline, as one about its only question. @param {Shown} shown @returns {Shown} */
function ofPipeline(shown) {
  const [asked] = MADE.includes(shown.answer.report?.for) ? shown.answer.report.questions : [];
  return asked ? { ...shown, task: "image", answer: { ...shown.answer, report: asked.report } } : shown;
}

/** The table of the formats to run it in, which is drawn. @param {Screen} screen @param {Fit} fit @returns {Grid | undefined} */
function ladderOf(screen, fit) {
  const rungs = fit.ladder?.length;
  const found = screen.sections.flat().find((block) => rungs && block.block === "grid" && block.rows.length === rungs);
  return found?.block === "grid" ? found : undefined;
}

/** The first line to run, which stands below the verdict. @param {Screen} screen @returns {Paste | undefined} */
function runOf(screen) {
  const found = screen.sections.flat().find((block) => block.block === "paste");
  return found?.block === "paste" ? found : undefined;
}

/** The table of a step's phases, which stands below their picture. @param {Screen} screen @param {Report} report */
function phasesOf(screen, report) {
  const most = Math.max(0, ...report.devices.map((device) => device.phases.length));
  const stages = report.derived?.["picture_stages"]?.length;
  const found = screen.sections.flat().find((block) => block.block === "grid" && !block.heading && (stages ? block.rows.length === stages : block.columns.length === most + 1));
  return found ?? null;
}

/** Sections of nothing but sentences stand on one card. @param {Block[][]} sections @returns {Block[][]} */
function together(sections) {
  /** @param {Block[] | undefined} section */
  const told = (section) => Boolean(section?.every((block) => block.block === "lines" || block.block === "note"));
  /** @type {Block[][]} */
  const found = [];
  for (const section of sections) {
    const last = found.at(-1);
    if (last && told(last) && told(section)) last.push(...section);
    else found.push([...section]);
  }
  return found;
}

/** Blocks that belong together. @param {ResultProps & { blocks: Block[], first: boolean, steps: Grid | null }} props */
function Section(props) {
  const { blocks, first, steps, shown, form, unit, seeking } = props;
  const drawn = blocks.map((block, at) => html`<${Drawn} key=${at} ...${props} block=${block} />`);
  if (!first || !["load", "infer", ...STEPPED].includes(shown.task)) return html`<section class="blocks">${drawn}</section>`;
  /** @type {Report} */
  const report = shown.answer.report;
  const bar = blocks.find((block) => block.block === "bar");
  const peak = bar?.block === "bar" ? phaseOf(report, bar, form)?.name : "";
  const table = steps ? html`<${Table} grid=${steps} words=${form.words} task=${shown.task} />` : null;
  return html`<section class="blocks answer">${drawn}</section>
    ${seeking ? html`<p class="seeking">${form.words["seeking"]}</p>` : null}
    ${STEPPED.includes(shown.task) ? html`<section class="blocks"><${Phases} report=${report} title=${shown.task === "image" ? form.words["stages.title"] : form.words["phases.title"]} form=${form} unit=${unit} capacity=${report.verdict?.usable_bytes ?? null} peak=${peak} table=${table} /></section>` : null}`;
}

/** @param {ResultProps & { block: Block }} props */
function Drawn({ block, shown, form, unit, apply }) {
  const words = form.words;
  switch (block.block) {
    case "headline":
      return html`<${Answered} block=${block} words=${words} />`;
    case "bar":
      return html`<${Weighed} bar=${block} report=${shown.task === OOM ? MESSAGE : shown.answer.report} form=${form} unit=${unit} />`;
    case "grid":
      if (block.actions?.some(Boolean) && !block.columns.some((column) => column.head)) return html`<${Remedies} grid=${block} words=${words} apply=${apply} />`;
      if (shown.task === "fit") return html`<details><summary>${words["table.same"]}</summary><${Table} grid=${block} words=${words} task="fit" /></details>`;
      return html`<${Table} grid=${block} words=${words} task=${shown.task} apply=${apply} />`;
    case "lines":
      return html`<${Sentences} block=${block} words=${words} />`;
    case "paste":
      return html`<${Pasted} block=${block} words=${words} />`;
    case "note":
      return html`<p class="dim">${linked(block.text)}</p>`;
    default:
      return null;
  }
}

/** The verdict. @param {{ block: Pick<Headline, "mark" | "verdict"> & Partial<Headline>, words: Words }} props */
function Answered({ block, words }) {
  return html`<div class=${`headline ${block.mark ?? "plain"}`}>
    <p class="verdict"><${Sign} mark=${block.mark} words=${words} /> <strong>${block.verdict}</strong></p>
    ${block.figures ? html`<p class="figures">${block.figures}</p>` : null}
    ${block.reason ? html`<p class="reason">${block.reason}</p>` : null}
  </div>`;
}

/** Changes that apply themselves. @param {{ grid: Grid, words: Words, apply: (change: Change) => void }} props */
function Remedies({ grid, words, apply }) {
  return html`<div class="remedies"><h3>${grid.heading}</h3><ul>
    ${grid.rows.map((row, at) => {
      const change = grid.actions?.[at];
      const cells = row.map((cell, i) => html`<span key=${i} class=${i === 0 ? "after" : "what"}>${cell.mark ? html`<${Sign} mark=${cell.mark} words=${words} /> ` : null}${cell.text}</span>`);
      return html`<li key=${at}>${change ? html`<button type="button" class="remedy" onClick=${() => apply(change)}>${cells}<span class="do">${words["remedy.apply"]}</span></button>` : html`<p class="remedy">${cells}</p>`}</li>`;
    })}</ul></div>`;
}

/** A table; it scrolls where it is wider than its place, and can then be reached by keyboard. @param {{ grid: Grid, words: Words, task: string, apply?: (change: Change) => void }} props */
function Table({ grid, words, task, apply }) {
  const shown = grid.columns.map((column, at) => ({ column, at })).filter(({ column, at }) => column.head || grid.rows.some((row) => row[at]?.text || row[at]?.mark));
  const headed = shown.some(({ column }) => column.head);
  const listing = task === "gpus" || task === "models";
  const [by, setBy] = useState(/** @type {{ column: number, down: boolean } | null} */ (null));
  const rows = by && listing ? order(grid.rows, by.column, by.down) : grid.rows.map((_, at) => at);
  /** The first press puts the largest of numbers first, and the first of words. @param {number} column @param {boolean} right */
  const sort = (column, right) => setBy(by?.column === column ? { column, down: !by.down } : { column, down: right });
  /** @param {number} column */
  const sorted = (column) => (by?.column === column ? (by.down ? "descending" : "ascending") : undefined);
  const acts = !listing && apply && grid.actions?.some(Boolean) ? grid.actions : null;
  /** @param {number} row */
  const to = (row) => {
    const action = grid.actions?.[row];
    const lang = document.documentElement.lang.slice(0, 2);
    return listing && action ? `#${new URLSearchParams({ task: "fit", lang, ...Object.fromEntries(Object.entries(action).map(([name, value]) => [name, String(value)])) })}` : "";
  };
  return html`<${Scrolled} label=${grid.heading || words["table"]}><table class="grid">
    ${grid.heading ? html`<caption>${grid.heading}</caption>` : null}
    ${headed ? html`<thead><tr>${shown.map(({ column, at }) => (column.head ? html`<th key=${at} scope="col" class=${column.right ? "right" : ""} aria-sort=${sorted(at)}>${listing ? html`<button type="button" class="sorts" onClick=${() => sort(at, column.right)}>${column.head}</button>` : column.head}</th>` : html`<td key=${at}></td>`))}${acts ? html`<td></td>` : null}</tr></thead>` : null}
    <tbody>${rows.map((index) => ({ index, row: grid.rows[index] ?? [] })).map(({ index, row }) => html`<tr key=${index}>${shown.map(({ column, at }, i) => html`<${Entry} key=${at} cell=${row[at]} first=${i === 0} right=${column.right} words=${words}
      href=${i === 0 ? to(index) : ""} />`)}
      ${acts ? html`<td class="right">${acts[index] && apply ? html`<button type="button" class="small" aria-label=${`${words["remedy.apply"]}: ${row.map((cell) => cell.text).find(Boolean)}`} onClick=${() => apply(acts[index] ?? {})}>${words["remedy.apply"]}</button>` : null}</td>` : null}</tr>`)}</tbody></table></${Scrolled}>`;
}

const SHORT = 18; // characters of a cell that is never broken

/** @param {{ cell: Cell | undefined, first: boolean, right: boolean, words: Words, href: string }} props */
function Entry({ cell, first, right, words, href }) {
  const side = `${right ? "right" : ""}${(cell?.text.length ?? 0) <= SHORT ? " short" : ""}`;
  const inside = html`${cell?.mark ? html`<${Sign} mark=${cell.mark} words=${words} /> ` : null}${href ? html`<a href=${href}>${cell?.text}</a>` : cell?.tone === "strong" ? html`<strong>${cell.text}</strong>` : linked(cell?.text ?? "")}`;
  if (first && cell?.text) return html`<th scope="row" class=${side}>${inside}</th>`;
  return html`<td class=${`${side} ${cell?.tone === "dim" ? "dim" : ""}`}>${inside}</td>`;
}

/** @param {{ label: string, children?: any }} props */
export function Scrolled({ label, children }) {
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  const [wide, setWide] = useState(false);
  useLayoutEffect(() => {
    const look = () => setWide(Boolean(box.current && box.current.scrollWidth > box.current.clientWidth + 1));
    look();
    addEventListener("resize", look);
    return () => removeEventListener("resize", look);
  });
  return html`<div class="scrolled" ref=${box} tabindex=${wide ? 0 : undefined} role=${wide ? "region" : undefined} aria-label=${wide ? label : undefined}>${children}</div>`;
}

/** @param {{ block: Lines, words: Words }} props */
function Sentences({ block, words }) {
  return html`<div class="lines">${block.heading ? html`<h3>${block.heading}</h3>` : null}<ul>
    ${block.lines.map((line, at) => html`<li key=${at} class=${line.mark ?? line.tone}>${line.mark ? html`<${Sign} mark=${line.mark} words=${words} /> ` : null}${linked(line.text)}</li>`)}</ul></div>`;
}

/** A line to paste, with a button that copies it. @param {{ block: Pick<Paste, "heading" | "text">, words: Words }} props */
export function Pasted({ block, words }) {
  const [copied, setCopied] = useState(false);
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  const copy = async () => {
    setCopied(await copyText(block.text, box.current));
  };
  return html`<div class="paste"><div class="paste-head"><h3>${block.heading}</h3>
    <button type="button" class="small" onClick=${copy} aria-label=${`${words["copy"]}: ${block.heading}`}>${copied ? words["copied"] : words["copy"]}</button></div>
    <pre ref=${box} aria-label=${block.heading}><code>${block.text}</code></pre></div>`;
}

/** Copies; where the browser does not let it, selects. @param {string} text @param {HTMLElement | null} [shown] */
export async function copyText(text, shown) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    if (shown) getSelection()?.selectAllChildren(shown);
    return false;
  }
}

/** Whether it can be run, what that takes, and how it is started. @param {ResultProps & { run: Paste | null }} props */
function Lead({ shown, form, unit, seeking, run }) {
  const words = form.words;
  const screen = /** @type {Screen} */ (shown.answer.screen);
  const [first = []] = screen.sections;
  const bar = first.find((block) => block.block === "bar");
  return html`${first.map((block, at) => (block.block === "lines" ? html`<div key=${at}>${block.lines.map((line, i) => html`<${Answered} key=${i} block=${{ mark: line.mark, verdict: line.text }} words=${words} />`)}</div>`
    : block.block === "headline" ? html`<${Answered} key=${at} block=${block} words=${words} />` : null))}
    <${Title} screen=${screen} />
    ${bar ? html`<${Filled} bar=${bar} form=${form} unit=${unit} />` : null}
    ${run ? html`<${Pasted} block=${run} words=${words} />` : null}
    ${seeking ? html`<p class="seeking">${words["seeking"]}</p>` : null}`;
}

/** The formats to run it in, and beside them the other questions, each with what would make it fit. @param {ResultProps} props */
function Formats({ shown, form, unit, open }) {
  /** @type {Fit} */
  const fit = shown.answer.report;
  const words = form.words;
  const grid = ladderOf(/** @type {Screen} */ (shown.answer.screen), fit);
  const rungs = grid ? (fit.ladder ?? []) : [];
  const sides = fit.questions.map((question, at) => ({ question, at })).filter(({ question }) => !grid || besideLadder(question, fit));
  const scale = extent(rungs.map((rung) => ({ segments: [], total: rung.peak_bytes, capacity: rung.usable_bytes, words: "" })));
  return html`<div class="both">${grid ? html`<${Ladder} grid=${grid} rungs=${rungs} scale=${scale} words=${words} unit=${unit} open=${open} />` : null}
    ${sides.length ? html`<div class="beside">${sides.every(({ question }) => question.task === "train") ? html`<h3>${words["beside.train"]}</h3>` : null}
      ${sides.map(({ question, at }) => html`<${Other} key=${at} question=${question} prices=${shown.answer.prices?.[at] ?? []} form=${form} unit=${unit} open=${open} />`)}</div>` : null}</div>`;
}

/** One more question: its verdict, and what would make it fit. @param {{ question: Question, prices: string[], form: Form, unit: string, open: (task: string, change: Change) => void }} props */
function Other({ question, prices, form, unit, open }) {
  const words = form.words;
  const { verdict } = question;
  const name = question.method ?? question.task;
  const needs = verdict?.per_device?.expected ?? null;
  const margin = verdict ? words[verdict.margin_bytes >= 0 ? "margin.spare" : "margin.short"]?.replace("{size}", size(Math.abs(verdict.margin_bytes), unit)) : "";
  const mark = markOf({ verdict });
  return html`<section class=${`side ${mark}`} data-question=${name}>
    <h3><${Sign} mark=${mark} words=${words} /> ${words[`question.${name}`] ?? question.task}<span class="row-told">${needs === null ? words["verdict.unknown"] : `${size(needs, unit)} · ${margin}`}</span></h3>
    <${Offers} question=${question} prices=${prices} form=${form} unit=${unit} open=${open} /></section>`;
}

/** Whether a question stands beside the formats: training, what was asked for, and serving where no format has room here. @param {Question} question @param {Fit} fit */
function besideLadder(question, fit) {
  const name = question.method === "full" ? "train" : question.method ?? question.task;
  return question.task === "train" || (name === "infer" ? !["whole", "divided"].includes(fit.plan.why) : name === fit.for);
}

/** The formats to run it in, a row each, to the scale of the other questions. @param {{ grid: Grid, rungs: Rung[], scale: number, words: Words, unit: string, open: (task: string, change: Change) => void }} props */
function Ladder({ grid, rungs, scale, words, unit, open }) {
  return html`<div class="ladder"><h3>${grid.columns[0]?.head}</h3>${rungs.map((rung, at) => {
    const row = grid.rows[at] ?? [];
    const [label, engine, needs, ...more] = row;
    const told = size(rung.peak_bytes, unit);
    const bar = { segments: [{ key: "needs", name: told, nbytes: rung.peak_bytes, size: "" }], total: rung.peak_bytes, capacity: rung.usable_bytes, words: `${label?.text}: ${told}` };
    const limits = more.map((cell, i) => (cell.text && grid.columns[i + 3]?.right ? words["rung.longest"]?.replace("{tokens}", () => cell.text) : cell.text)).filter(Boolean).join(" · ");
    return html`<section key=${at} class=${`side rung ${needs?.mark ?? ""}`} data-rung=${rung.format}>
      <h3><${Sign} mark=${needs?.mark ?? null} words=${words} /> ${label?.text} <span class="dim">${engine?.text}</span><span class="row-told">${needs?.text}</span></h3>
      <${Picture} row=${bar} whole=${scale} styles=${new Map([["needs", NEEDS]])} high=${14} />
      <p class="offers"><span class="dim">${limits}</span> <button type="button" class="closer" title=${words["open.infer"]} aria-label=${`${words["open.infer"]}: ${label?.text}`} onClick=${() => open("infer", { ...rung.change })}>›</button></p></section>`;
  })}</div>`;
}

/** That a change is another method, and which. @param {Remedy} one @param {Question} question @param {Words} words */
function instead(one, question, words) {
  const method = one.change["method"];
  if (typeof method !== "string" || method === question.method) return null;
  return html`<strong>${words["offer.instead"]?.replace("{method}", () => words[`method.${method}`] ?? method)}</strong> `;
}

/** A change in words: "4 bit (nf4)", "Sequence length 1024". @param {Change} change @param {string} task @param {Form} form */
function spokenChange(change, task, form) {
  const labels = new Map(settingsOf(form, task).map((one) => [one.name, one.label]));
  return Object.entries(change).filter(([name]) => name !== "method").map(([name, value]) => {
    const text = spelled(value);
    const bits = name === "quantization" ? form.bits[text] : undefined;
    if (bits) return (form.words["change.bits"] ?? "").replace("{bits}", String(Math.round(bits))).replace("{form}", () => text);
    if (name === "engine" || name === "gpu") return text;
    const label = (labels.get(name) ?? name).replace(/ ?[(（].*/, "");
    return value === true ? label : `${label}: ${text}`;
  }).join(", ");
}

/** @param {{ question: Question, prices: string[], form: Form, unit: string, open: (task: string, change: Change) => void }} props */
function Offers({ question, prices, form, unit, open }) {
  const words = form.words;
  const base = question.method ? { method: question.method } : {};
  const remedies = question.verdict?.fits === "yes" ? [] : offered(question);
  /** @param {Remedy} remedy */
  const after = (remedy) => size(remedy.per_device?.expected ?? remedy.peak_bytes, unit);
  return html`<div class="offers">
    ${remedies.map(({ one, at }) => html`<button key=${at} type="button" class="offer" onClick=${() => open(question.task, { ...base, ...one.change })}>
      <${Sign} mark=${one.fits} words=${words} /> ${after(one)} ${instead(one, question, words)}${spokenChange(one.change, question.task, form)}${prices[at] ? html` <small>${prices[at]}</small>` : null}</button>`)}
    <p class="closer-row"><button type="button" class="link" onClick=${() => open(question.task, base)}>${words[`open.${question.task}`]}</button></p>
    ${remedies.length ? html`<details class="flags"><summary>${words["offer.flags"]}</summary><ul>${remedies.map(({ one, at }) => html`<li key=${at}><code>${one.flags}</code></li>`)}</ul></details>` : null}</div>`;
}

/** Several answers on one scale; what was not answered says why. @param {ResultProps} props */
function Compared({ shown, form, unit }) {
  /** @type {any[]} */
  const reports = shown.answer.reports ?? [];
  const heads = [...(shown.answer.labels ?? [])];
  const named = reports.map((report) => ({ report, label: report.error ? "" : (heads.shift() ?? report.model.name) }));
  const sides = named.flatMap(({ report, label }, at) => (report.error ? [] : [side(report, label, String(at), unit)]));
  const errors = named.flatMap(({ report }, at) => (report.error ? [`${at + 1}: ${report.error.message}`] : []));
  return html`<section class="blocks answer">${sides.length ? html`<${Sides} sides=${sides} form=${form} unit=${unit} />` : null}
    ${errors.map((text) => html`<p key=${text} class="error">${text}</p>`)}</section>`;
}

/** @param {any} report of a task, or of fit: then of its plan @param {string} label @param {string} key @param {string} unit */
function side(report, label, key, unit) {
  /** @type {import("./types.js").Plan | undefined} */
  const plan = report.plan;
  if (plan && plan.why !== "asked") {
    const how = plan.engine ? `${plan.engine} ${plan.format}` : "";
    return { key, label: `${label} ${how}`.trim(), mark: plan.fits, report: null, capacity: plan.usable_bytes, needs: plan.peak_bytes, told: plan.peak_bytes === null ? "" : size(plan.peak_bytes, unit) };
  }
  /** @param {Question} one */
  const name = (one) => (one.method === "full" ? "train" : one.method) ?? one.task;
  const asked = report.questions?.find((/** @type {Question} */ one) => name(one) === report.for)?.report ?? report;
  const verdict = asked.verdict ?? null;
  const peak = verdict?.per_device?.expected;
  return { key, label, mark: verdict ? markOf({ verdict }) : "", report: asked.devices ? asked : null, capacity: verdict?.usable_bytes ?? null, told: peak === undefined ? "" : size(peak, unit) };
}
