/** Past transfers as a page that can be printed and handed over: one file, which loads nothing. */
import type { HistoryEntry } from "../events";
import { h } from "./elements";
import type { Messages } from "./messages";
import { headingOf, receiptRows } from "./screens/done";

const POLICY = "default-src 'none'; style-src 'unsafe-inline'";
const STYLE = `
:root { color-scheme: light; }
body { font: 11pt/1.45 system-ui, sans-serif; color: #111; margin: 2rem auto; max-width: 46rem; padding: 0 1rem; }
section { border-top: 1px solid #bbb; padding: 1rem 0; break-inside: avoid; }
h2 { font-size: 1.1rem; margin: 0 0 .5rem; }
dl { display: grid; grid-template-columns: minmax(9rem, max-content) 1fr; gap: .15rem 1rem; margin: 0; }
dt { color: #555; } dd { margin: 0; overflow-wrap: anywhere; }
@page { margin: 18mm; }
@media print { body { margin: 0; max-width: none; padding: 0; } }
`;

/** What the receipts say; names of files are in none of them. */
export function receiptsPage(entries: readonly HistoryEntry[], t: Messages): Blob {
  const page = document.implementation.createHTMLDocument(t.history.pageTitle);
  page.head.prepend(h("meta", { charset: "utf-8" }));
  page.head.append(h("meta", { "http-equiv": "Content-Security-Policy", content: POLICY }));
  const made = new Date().toISOString().slice(0, 19).replace("T", " ");
  page.body.append(
    h("h1", {}, t.history.pageTitle),
    h("p", {}, t.history.made(made)),
    h("p", {}, t.history.shows),
    ...entries.map((one) => {
      const rows = receiptRows(one.receipt, t).flatMap(([name, value]) => [
        h("dt", {}, name),
        h("dd", {}, ...value),
      ]);
      return h("section", {}, h("h2", {}, headingOf(one, t)), h("dl", {}, ...rows));
    }),
  );
  // As text: the policy of the page that makes it lets no style be inline.
  const [head, body] = [page.head.innerHTML, page.body.outerHTML];
  const html = `<html lang="${t.locale.slice(0, 2)}"><head>${head}<style>${STYLE}</style></head>${body}</html>`;
  return new Blob(["<!doctype html>\n", html, "\n"], { type: "text/html" });
}
