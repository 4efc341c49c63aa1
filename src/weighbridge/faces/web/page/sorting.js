// The order of a table's rows by one of its columns.
/** @import { Cell } from "./types.js" */

const TIMES = new Map([["K", 1e3], ["M", 1e6], ["B", 1e9], ["T", 1e12]]);
const UNITS = new Map([["KiB", 2 ** 10], ["MiB", 2 ** 20], ["GiB", 2 ** 30], ["TiB", 2 ** 40], ["KB", 1e3], ["MB", 1e6], ["GB", 1e9], ["TB", 1e12]]);
const NUMBER = /^([+-]?[\d,]+(?:\.\d+)?)(?:\s*([A-Za-z]+).*|\s*%)?$/;

/** A cell's number: "8.19 B", "1,008 GB/s", "23.5 GiB"; undefined where it is text or a month. @param {string} text */
export function amount(text) {
  const found = NUMBER.exec(text.trim());
  if (!found) return undefined;
  const unit = found[2] ?? "";
  return Number((found[1] ?? "").replaceAll(",", "")) * (UNITS.get(unit) ?? TIMES.get(unit) ?? 1);
}

/**
 * Numbers of the rows in the order of a column; what is empty stays last, and rows that are alike stay as they are.
 * @param {Cell[][]} rows @param {number} column @param {boolean} down the largest first
 */
export function order(rows, column, down) {
  const keys = rows.map((row) => (row[column]?.text ?? "").trim());
  const filled = keys.filter(Boolean);
  const numbers = filled.length > 0 && filled.every((text) => amount(text) !== undefined);
  /** @param {number} a @param {number} b */
  const compared = (a, b) => {
    const [one, other] = [keys[a] ?? "", keys[b] ?? ""];
    if (!one || !other) return Number(!one) - Number(!other);
    const step = numbers ? Number(amount(one)) - Number(amount(other)) : one.localeCompare(other, undefined, { numeric: true });
    return down ? -step : step;
  };
  return rows.map((_, at) => at).sort(compared);
}
