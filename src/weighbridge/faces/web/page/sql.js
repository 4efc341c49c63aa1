// SQL over a dataset: in a terminal, or here where the site was built with DuckDB.
import { html, useState } from "./vendor/htm-preact.js";
import { database, files, MOST_ROWS } from "./duckdb.js";
import { Scrolled } from "./result.js";
/** @import { Dataset } from "./dataset.js" */
/** @import { Words } from "./types.js" */

const MOST = 32_000_000; // bytes of a dataset that is handed to DuckDB as a whole

/** @param {{ words: Words, data: Dataset, question: string }} props */
export function Sql({ words, data, question }) {
  const first = `select id, need from weighed\nwhere question = '${question.replaceAll("'", "''")}' and fits = 'yes'\norder by need desc`;
  const here = files() && data.bytes() <= MOST;
  return html`<details class="sql"><summary>SQL</summary>
    ${here ? html`<${Box} words=${words} data=${data} first=${first} />` : html`<p>${words["sql.terminal"]}</p><pre><code>${`weighbridge scan query DIR "${first.replaceAll("\n", " ")}"`}</code></pre><p class="help">${words["sql.build"]}</p>`}</details>`;
}

/** @param {{ words: Words, data: Dataset, first: string }} props */
function Box({ words, data, first }) {
  const [sql, setSql] = useState(first);
  const [busy, setBusy] = useState(false);
  const [lines, setLines] = useState(/** @type {(string | null)[][] | null} */ (null));
  const [error, setError] = useState("");
  const run = async () => {
    setBusy(true);
    setError("");
    try {
      setLines(await (await database(data)).query(sql));
    } catch (failure) {
      setLines(null);
      setError(failure instanceof Error ? failure.message : String(failure));
    }
    setBusy(false);
  };
  const [heads, ...rows] = lines ?? [];
  return html`<form onSubmit=${(/** @type {Event} */ e) => {
    e.preventDefault();
    void run();
  }}><div class="field"><label for="sql">${words["sql.label"]}</label>
      <textarea id="sql" rows="4" spellcheck=${false} aria-describedby="sql-help" value=${sql} onInput=${(/** @type {Event} */ e) => setSql(/** @type {HTMLTextAreaElement} */ (e.target).value)}></textarea>
      <p class="help" id="sql-help">${words["sql.help"]}</p></div>
    <button id="sql-run" disabled=${busy}>${busy ? words["sql.busy"] : words["sql.run"]}</button></form>
    ${error ? html`<p class="error" role="alert">${error}</p>` : null}
    ${heads ? html`<p role="status" id="sql-count">${words["sql.rows"]?.replace("{count}", String(rows.length)).replace("{most}", String(MOST_ROWS))}</p>
      <${Scrolled} label=${words["table"]}><table class="grid"><thead><tr>${heads.map((one, at) => html`<th key=${at} scope="col">${one}</th>`)}</tr></thead>
        <tbody>${rows.map((row, at) => html`<tr key=${at}>${row.map((one, i) => html`<td key=${i}>${one ?? ""}</td>`)}</tr>`)}</tbody></table></${Scrolled}>` : null}`;
}
