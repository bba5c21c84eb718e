/** Sent, with a receipt of both. */
import { button, bytes, choices, h, title, type Context, type Screen } from "../elements";
import type { Model } from "../model";

const FAILED_SHOWN = 50; // entries

export function sent(model: Model, { t, actions }: Context): Screen {
  const { files, size, failures, failed, transferId, code } = model.sent!;
  const rows = failed
    .slice(0, FAILED_SHOWN)
    .map(([path, status]) => h("li", {}, h("b", { dir: "auto" }, path), `: ${t.statuses[status]}`));
  const what = `${t.files(files)}, ${bytes(size, t)}`;
  const unheard = code === "receipt_unconfirmed";
  const children = [
    title(failures ? t.sent.incompleteTitle(t.files(failures)) : t.sent.title(what)),
    h(
      "p",
      { class: failures ? "note" : "good" },
      failures ? (files ? t.sent.incomplete : t.sent.nothing) : t.sent.text,
    ),
    failures > 0 && h("ul", { class: "failed" }, ...rows),
    unheard && h("p", { class: "note" }, t.failuresSender.receipt_unconfirmed),
    choices(
      button(t.sent.receipt, () => actions.command({ command: "receipt", transferId })),
      button(t.sent.more, () => actions.home(), "quiet"),
    ),
    h("p", { class: "small" }, model.persisted ? t.sent.stays : t.sent.mayGo),
    h(
      "details",
      { class: "list" },
      h("summary", {}, t.sent.what),
      h("p", { class: "small proves" }, t.sent.proves),
    ),
  ];
  return { children };
}
