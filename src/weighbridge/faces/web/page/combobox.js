// A text box with a list of what it may mean: the editable combobox of the ARIA patterns.
import { html, useEffect, useMemo, useState } from "./vendor/htm-preact.js";
/** @import { Option } from "./types.js" */

const MOST = 12; // that are listed
const BEFORE = /^\s*(\d{1,4})\s*(?:x|×|\*|张|块|卡)\s*/iu;
const AFTER = /\s*[:x×*]\s*(\d{1,4})\s*$/iu;

/** Letters and digits alone, as people leave out the rest. @param {string} text */
const plain = (text) => text.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "");

/** A name without a count of cards. @param {string} text @returns {{ name: string, count: string }} */
export function counted(text) {
  const found = BEFORE.exec(text) ?? AFTER.exec(text);
  if (!found) return { name: text, count: "" };
  return { name: text.replace(found[0], ""), count: found[1] ?? "" };
}

/** Everything of an option that is searched, made plain once. @param {Option[]} options */
export function index(options) {
  return options.map((option) => {
    const spelled = [option.name, option.label, ...option.spellings];
    return { option, spelled: spelled.map(plain), words: spelled.flatMap((s) => s.split(/[^\p{L}\p{N}]+/u)).map(plain) };
  });
}

/**
 * The options that a typed text may mean, the likeliest first.
 * @param {ReturnType<typeof index>} all @param {string} text @returns {Option[]}
 */
export function matches(all, text) {
  const asked = text.split(/[^\p{L}\p{N}.]+/u).map(plain).filter(Boolean);
  if (!asked.length) return all.map((one) => one.option);
  const whole = plain(text);
  /** @type {[number, number, Option][]} */
  const found = [];
  for (const { option, spelled, words } of all) {
    if (!asked.every((part) => spelled.some((s) => s.includes(part)))) continue;
    const rank = spelled.includes(whole) ? 0
      : spelled.some((s) => s.startsWith(whole)) ? 1
        : asked.every((part) => words.includes(part)) ? 2
          : asked.every((part) => words.some((w) => w.startsWith(part))) ? 3 : 4;
    found.push([rank, option.label.length, option]);
  }
  return found.sort((a, b) => a[0] - b[0] || a[1] - b[1]).map(([, , option]) => option);
}

/**
 * @param {{ id: string, value: string, options: Option[], words: Record<string, string>, label: string,
 *   placeholder?: string, described?: string, invalid?: boolean, counts?: boolean, note?: (o: Option) => string, title?: (o: Option) => string,
 *   commit: (value: string) => void, pasted?: (text: string) => boolean }} props
 */
export function Combobox({ id, value, options, words, label, placeholder = "", described, invalid, counts, note, title = (option) => option.label, commit, pasted }) {
  const [typed, setTyped] = useState(/** @type {string | null} */ (null));
  const [open, setOpen] = useState(false);
  const [at, setAt] = useState(-1);
  const all = useMemo(() => index(options), [options]);
  const text = typed ?? value;
  const asked = counts ? counted(text) : { name: text, count: "" };
  const found = useMemo(() => (open ? matches(all, typed === null ? "" : asked.name) : []), [all, open, typed]);
  const listed = found.slice(0, MOST);

  /** @param {string} next */
  const choose = (next) => {
    setTyped(null);
    setOpen(false);
    setAt(-1);
    if (next.trim() !== value) commit(next.trim());
  };
  /** @param {Option} option */
  const pick = (option) => choose(asked.count ? `${option.name}:${asked.count}` : option.name);
  /** @param {KeyboardEvent} event */
  const key = (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      event.preventDefault();
      setOpen(true);
      if (open && listed.length) setAt((at + step + listed.length + (at < 0 && step < 0 ? 1 : 0)) % listed.length);
    } else if (event.key === "Enter") {
      event.preventDefault();
      const chosen = listed[at];
      if (open && chosen) pick(chosen);
      else choose(text);
    } else if (event.key === "Escape") {
      event.preventDefault();
      if (!open) setTyped(null); // the second Escape takes back what was typed, the first keeps it
      setOpen(false);
      setAt(-1);
    }
  };
  const list = `${id}-list`;
  useEffect(() => {
    if (at >= 0) document.getElementById(`${list}-${at}`)?.scrollIntoView({ block: "nearest" });
  }, [at]);
  return html`<div class="combo">
    <input id=${id} type="text" role="combobox" autocomplete="off" autocapitalize="off" spellcheck=${false}
      aria-expanded=${open && listed.length > 0} aria-controls=${list} aria-autocomplete="list" aria-describedby=${described}
      aria-invalid=${invalid ? "true" : undefined} aria-activedescendant=${open && at >= 0 ? `${list}-${at}` : undefined}
      placeholder=${placeholder} value=${text}
      onFocus=${(/** @type {Event} */ e) => /** @type {HTMLInputElement} */ (e.target).select()}
      onClick=${() => setOpen(true)} onKeyDown=${key}
      onInput=${(/** @type {Event} */ e) => {
        setTyped(/** @type {HTMLInputElement} */ (e.target).value);
        setOpen(true);
        setAt(-1);
      }}
      onPaste=${(/** @type {ClipboardEvent} */ e) => { // the box itself would join the lines of a text
        if (!pasted?.(e.clipboardData?.getData("text") ?? "")) return;
        e.preventDefault();
        setTyped(null);
        setOpen(false);
      }}
      onBlur=${() => choose(text)} />
    <ul id=${list} role="listbox" aria-label=${label} hidden=${!open || !listed.length}>
      ${listed.map((option, index) => html`<li key=${option.name} id=${`${list}-${index}`} role="option" aria-selected=${index === at}
        onMouseDown=${(/** @type {Event} */ e) => e.preventDefault()} onClick=${() => pick(option)}>
        <span>${title(option)}</span>${note ? html`<small>${note(option)}</small>` : null}</li>`)}
      ${found.length > MOST ? html`<li role="option" aria-disabled="true" aria-selected="false" class="more">${words["combo.more"]?.replace("{count}", String(found.length - MOST))}</li>` : null}
    </ul>
  </div>`;
}
