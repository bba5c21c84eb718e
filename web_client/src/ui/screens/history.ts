/** What was sent and received in this browser, by its receipts. */
import type { HistoryEntry } from "../../events";
import { asking, button, choices, h, title, type Context, type Screen } from "../elements";
import { download } from "../download";
import { receiptsPage } from "../receipts_page";
import { deliveredOf, headingOf, receiptSummary } from "./done";
import type { Model } from "../model";

const PAGE = "handover-receipts.html";

export function history(model: Model, { t: all, actions }: Context): Screen {
  const t = all.history;
  const children = [
    title(t.title),
    h("p", {}, t.text),
    model.history.length === 0 && h("p", {}, t.none),
    ...model.history.map((one) => entry(one, { t: all, actions })),
    choices(
      model.history.length > 0 &&
        button(
          t.page,
          () => {
            download(PAGE, receiptsPage(model.history, all));
            actions.command({ command: "exported", count: model.history.length });
          },
          "quiet",
        ),
      button(t.audit, () => actions.command({ command: "audit" }), "quiet"),
      model.history.length > 0 &&
        asking(t.eraseAll, t.eraseAllSure(model.history.length), () =>
          actions.command({ command: "forget", transferId: "" }),
        ),
      button(all.check.back, () => actions.home(), "quiet"),
    ),
  ];
  return { children };
}

function entry(
  one: HistoryEntry,
  { t: all, actions }: Pick<Context, "t" | "actions">,
): HTMLElement {
  const { history: t } = all;
  const { receipt } = one;
  const { transferId } = receipt;
  const when = new Date(receipt.verified).toLocaleString(all.locale, {
    dateStyle: "medium",
    timeStyle: "short",
  });
  return h(
    "section",
    { class: "past-transfer" },
    h("h2", {}, headingOf(one, all)),
    h("p", {}, `${when} · ${all.receipt.delivered}: ${deliveredOf(receipt, all)}`),
    !receipt.confirmed && h("p", { class: "note" }, all.receipt.byOneAlone),
    receiptSummary(receipt, all),
    choices(
      button(all.sent.receipt, () => actions.command({ command: "receipt", transferId }), "quiet"),
      asking(t.erase, t.eraseSure, () => actions.command({ command: "forget", transferId })),
    ),
  );
}
