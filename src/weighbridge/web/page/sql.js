// SQL over a dataset: in a terminal, or here where the site was built with DuckDB.
import { html } from "./vendor/htm-preact.js";
/** @import { Dataset } from "./dataset.js" */
/** @import { Words } from "./types.js" */

const EXAMPLE = `weighbridge scan query DIR "select id, need from weighed where question = 'QUESTION' and fits = 'yes' order by need desc"`;

/** @param {{ words: Words, data: Dataset }} props */
export function Sql({ words, data }) {
  const question = data.told.questions[0]?.name ?? "";
  return html`<details class="sql"><summary>SQL</summary><p>${words["sql.terminal"]}</p>
    <pre><code>${EXAMPLE.replace("QUESTION", () => question)}</code></pre></details>`;
}
