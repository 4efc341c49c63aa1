// The form: a control for each setting of the table, by its kind.
import { html, useMemo, useState } from "./vendor/htm-preact.js";
import { Combobox, counted } from "./combobox.js";
import { relevant, tabOf } from "./state.js";
import { count, nearest, size, steps } from "./sizes.js";
/** @import { Form, Section, Setting, Values } from "./types.js" */

const FORMAT = "quantization";
const ELSEWHERE = new Set(["command"]); // settings that have a place of their own on the page

/** @param {Event} event */
const valueOf = (event) => /** @type {HTMLInputElement} */ (event.target).value;

/**
 * @typedef {{ form: Form, task: string, given: Values, effective: Record<string, unknown>,
 *   problem: { name: string, message: string } | null, wanted?: { name: string, message: string } | null, prefix: string, brief?: boolean, only?: string[], without?: string[], parameters?: number | null,
 *   set: (name: string, value: string, live?: boolean) => void }} FieldsProps
 */

/** Settings that stand beside the model, on top, by tab. @type {Record<string, string[]>} */
export const QUICK = {
  fit: ["gpu", "quantization", "context", "batch_size", "ram"],
  load: ["gpu", "quantization"],
  infer: ["gpu", "quantization", "context"],
  train: ["gpu", "method", "seq_len"],
  image: ["gpu", "size", "quantization"],
  train_image: ["gpu", "method", "size"],
  oom: ["gpu"],
};

/** The settings of a tab: the usual ones, and the rest behind a disclosure. @param {FieldsProps} props */
export function Fields(props) {
  const { form, task, given, brief, only, without = [] } = props;
  const words = form.words;
  const tab = tabOf(form, task);
  const all = tab.sections.flatMap((section) => section.settings);
  const shown = new Set(all.filter((one) => relevant(one, given, all) && !ELSEWHERE.has(one.name) && (!only || only.includes(one.name)) && !without.includes(one.name)));
  const lead = brief ? tab.sections : tab.sections.slice(0, 1);
  const first = lead.flatMap((section) => section.settings).filter((one) => shown.has(one));
  const rest = tab.sections.slice(lead.length)
    .map((section) => ({ ...section, settings: section.settings.filter((one) => shown.has(one)) }))
    .filter((section) => section.settings.length);
  const used = rest.flatMap((section) => section.settings).filter((s) => given[s.name]).length;
  return html`
    ${first.map((setting) => html`<${Field} key=${setting.name} ...${props} setting=${setting} />`)}
    ${rest.length ? html`<details class="advanced" open=${problemIn(rest, props.problem) || undefined}>
      <summary>${words["form.advanced"]}${used ? html` <span class="badge">${used}</span>` : null}</summary>
      ${rest.map((section) => html`<fieldset key=${section.label}><legend>${section.label}</legend>
        ${section.settings.map((setting) => html`<${Field} key=${setting.name} ...${props} setting=${setting} />`)}
      </fieldset>`)}
    </details>` : null}`;
}

/** @param {Section[]} sections @param {FieldsProps["problem"]} problem */
function problemIn(sections, problem) {
  return sections.some((section) => section.settings.some((s) => s.name === problem?.name));
}

/** @param {FieldsProps & { setting: Setting }} props */
function Field(props) {
  const { form, setting, problem, wanted, prefix, brief } = props;
  const id = `${prefix}-${setting.name}`;
  const wrong = problem?.name === setting.name ? problem.message : "";
  const described = [`${id}-help`, wrong ? `${id}-error` : ""].filter(Boolean).join(" ");
  const kind = control(setting);
  const own = { ...props, id, described, wrong };
  const label = html`<label for=${id}>${(brief && form.words[`chip.${setting.name}`]) || setting.label}</label>`;
  return html`<div class=${`field ${kind}${wrong ? " wrong" : ""}`} data-setting=${setting.name}>
    ${kind === "check" ? html`<${Check} ...${own} />` : html`${label}<${CONTROLS[kind]} ...${own} />`}
    <p class="help" id=${`${id}-help`}>${setting.help}</p>
    ${wanted?.name === setting.name ? html`<p class="next">${wanted.message}</p>` : null}
    ${wrong ? html`<p class="error" id=${`${id}-error`}>${wrong}</p>` : null}
  </div>`;
}

/** @param {Setting} setting */
function control(setting) {
  if (setting.name === "gpu") return "card";
  if (setting.kind === "flag") return "check";
  if (setting.slider) return "slide";
  if (setting.choices.length) return "pick";
  return "text";
}

/**
 * A box whose text is taken when one leaves it; until then an answer that is drawn leaves alone what is typed.
 * @param {Record<string, any> & { value: string, commit: (text: string) => void, tag?: "input" | "textarea" }} props
 */
export function Typed({ value, commit, tag = "input", ...attributes }) {
  const [typed, setTyped] = useState(/** @type {string | null} */ (null));
  return html`<${tag} ...${attributes} value=${typed ?? value} onInput=${(/** @type {Event} */ e) => setTyped(valueOf(e))} onBlur=${() => setTyped(null)}
    onChange=${(/** @type {Event} */ e) => {
      setTyped(null);
      commit(valueOf(e));
    }} />`;
}

/** @typedef {FieldsProps & { setting: Setting, id: string, described: string, wrong: string }} ControlProps */

/** @param {ControlProps} props */
function Check({ setting, id, described, given, set }) {
  return html`<label class="tick"><input type="checkbox" id=${id} aria-describedby=${described} checked=${given[setting.name] === "true"}
    onChange=${(/** @type {Event} */ e) => set(setting.name, /** @type {HTMLInputElement} */ (e.target).checked ? "true" : "")} />
    <span>${setting.label}</span></label>`;
}

/** @param {ControlProps} props */
function Pick({ setting, id, described, wrong, given, set, form }) {
  const usual = setting.default === null || setting.default === undefined ? "" : String(setting.default);
  const value = given[setting.name] ?? "";
  const strange = value && !setting.choices.includes(value);
  return html`<select id=${id} aria-describedby=${described} aria-invalid=${wrong ? "true" : undefined} value=${value}
    onChange=${(/** @type {Event} */ e) => set(setting.name, valueOf(e))}>
    <option value="">${usual ? form.words["form.usual"]?.replace("{value}", usual) : form.words["form.default"]}</option>
    ${setting.choices.filter((one) => one !== usual || one === value).map((one) => html`<option key=${one} value=${one}>${one}</option>`)}
    ${strange ? html`<option value=${value}>${value}</option>` : null}
  </select>`;
}

/** @param {ControlProps} props */
function Text({ setting, id, described, wrong, given, effective, set, form, parameters }) {
  const suggested = read(setting, form, String(given.engine || effective.engine)) ?? setting.known ?? [];
  return html`<${Typed} type="text" id=${id} autocomplete="off" spellcheck=${false} aria-describedby=${described} aria-invalid=${wrong ? "true" : undefined}
      list=${suggested.length ? `${id}-some` : undefined} value=${given[setting.name] ?? ""} placeholder=${usual(setting, effective) || (setting.name === FORMAT ? form.words["format.published"] : "")}
      commit=${(/** @type {string} */ next) => set(setting.name, next.trim())} />
    ${suggested.length ? html`<datalist id=${`${id}-some`}>${suggested.map((one) => html`<option key=${one} value=${one} label=${setting.name === FORMAT ? least(one, form, parameters) : undefined} />`)}</datalist>` : null}`;
}

/** "nf4: from 4.2 GiB", the bare bits of all weights; undefined where one of both is not known. @param {string} format @param {Form} form @param {number | null} [parameters] */
function least(format, form, parameters) {
  const bits = form.bits[format];
  if (!bits || !parameters) return undefined;
  return `${format} ${form.words["format.least"]?.replace("{size}", size((parameters * bits) / 8, "GiB"))}`;
}

/** Formats that an engine reads; of other settings, and where no engine is meant, nothing. @param {Setting} setting @param {Form} form @param {string} engine */
function read(setting, form, engine) {
  return setting.name === FORMAT ? form.engines.find((one) => one.name === engine)?.reads : undefined;
}

/** What holds where nothing is said. @param {Setting} setting @param {Record<string, unknown>} effective */
function usual(setting, effective) {
  const value = effective[setting.name] ?? setting.default;
  return value === null || value === undefined || typeof value === "object" ? "" : String(value);
}

/** A slider on a log scale, and a box that takes any value. @param {ControlProps} props */
function Slide({ setting, id, described, wrong, given, effective, set }) {
  const { least, most } = setting.slider ?? { least: 1, most: 2 };
  const all = useMemo(() => steps(least, most), [least, most]);
  const said = given[setting.name] || usual(setting, effective);
  const value = count(said);
  const at = nearest(all, Number.isNaN(value) ? least : value);
  return html`<div class="slide-row">
    <input type="range" aria-label=${setting.label} aria-describedby=${`${id}-help`} min="0" max=${all.length - 1} step="1" value=${at}
      aria-valuetext=${said || String(all[at])}
      onInput=${(/** @type {Event} */ e) => set(setting.name, String(all[Number(valueOf(e))] ?? least), true)} />
    <${Typed} type="text" id=${id} inputmode="numeric" autocomplete="off" aria-describedby=${described} aria-invalid=${wrong ? "true" : undefined}
      value=${given[setting.name] ?? ""} placeholder=${usual(setting, effective)}
      commit=${(/** @type {string} */ next) => set(setting.name, next.trim())} />
  </div>`;
}

/** An accelerator as people type it, and how many. @param {ControlProps} props */
function Card({ setting, id, described, wrong, given, set, form }) {
  const words = form.words;
  const value = given.gpu ?? "";
  const { name, count: many } = counted(value);
  const known = form.gpus.find((one) => one.name === name);
  /** @param {string} next */
  const times = (next) => set("gpu", next && next !== "1" ? `${name}:${next}` : name);
  return html`<div class="card-row">
    <${Combobox} id=${id} label=${setting.label} value=${known ? known.label + (many ? ` × ${many}` : "") : value} options=${form.gpus} words=${words} counts=${true}
      placeholder=${words["gpu.placeholder"]} described=${described} invalid=${Boolean(wrong)} note=${memory}
      commit=${(/** @type {string} */ next) => set("gpu", next)} />
    <span class="times" aria-hidden="true">×</span>
    <${Typed} type="number" class="many" min="1" max="1024" aria-label=${words["gpu.count"]} value=${many} placeholder="1" disabled=${!name}
      commit=${times} />
  </div>`;
}

/** Marketed or in bytes, as the list has it. @param {{ memory?: number | null }} option */
function memory(option) {
  return option.memory ? size(option.memory, "GiB") : "";
}

/** @type {Record<string, (props: any) => any>} */
const CONTROLS = { card: Card, slide: Slide, pick: Pick, text: Text };
