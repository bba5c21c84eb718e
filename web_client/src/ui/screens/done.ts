/** Delivered: saving, what failed, the receipt. */
import type { HistoryEntry, ReceiptSummary } from "../../events";
import {
  button,
  bytes,
  choices,
  contentOf,
  h,
  skippedOf,
  title,
  type Child,
  type Context,
  type Screen,
} from "../elements";
import type { Messages } from "../messages";
import type { Model } from "../model";

const FAILED_SHOWN = 50; // entries

export function done(model: Model, { t, actions }: Context): Screen {
  const delivered = model.delivered!;
  const { transferId } = delivered;
  const [failed, arrived] = [delivered.failures, delivered.entries];
  const rows = delivered.failed
    .slice(0, FAILED_SHOWN)
    .map(([path, status]) => h("li", {}, h("b", { dir: "auto" }, path), `: ${t.statuses[status]}`));
  const inFolder = delivered.where === "folder";
  const whole = inFolder ? t.done.textFolder(delivered.name) : t.done.text;
  const text = failed ? (arrived ? t.done.incomplete : t.done.nothing) : whole;
  const erased = model.saved === "removed" || model.saved === "saved";
  const toSave = !erased && arrived > 0 && !inFolder;
  const receipt = button(
    t.done.receipt,
    () => actions.command({ command: "receipt", transferId }),
    "quiet receipt",
  );
  const after = [
    h("h2", {}, t.done.savedTitle),
    h("p", {}, t.done.saved),
    button(t.done.remove, () => actions.command({ command: "discard" }), "quiet"),
  ];
  const save = button(
    t.done.save(delivered.name, bytes(delivered.size, t)),
    () => void actions.save(delivered.name),
    model.saved === "offered" ? "quiet" : "primary",
  );
  const bar = h("progress", { max: "1", "aria-label": t.done.saving });
  save.disabled = model.saved === "saving";
  const gone = model.saved === "saved" ? t.done.savedAs(model.savedAs) : t.done.removed;
  const lasting = model.persisted ? t.done.keeps : t.done.keepsNot;
  const keeps = model.offer?.where === "memory" ? t.offer.memory : lasting;
  const stays = model.persisted ? t.done.receiptStays : t.done.receiptMayGo;
  const children = [
    title(
      failed
        ? t.done.incompleteTitle(t.files(failed))
        : t.done.title(model.offer ? contentOf(model.offer, t) : t.files(delivered.files)),
    ),
    h("p", { class: failed ? "note" : "good" }, text),
    failed > 0 && h("ul", { class: "failed" }, ...rows),
    model.offer && skippedOf(model.offer, t),
    !delivered.confirmed && h("p", { class: "note" }, t.done.unconfirmed),
    erased && h("p", { role: "status" }, gone),
    model.saved === "unsaved" && h("p", { class: "warning", role: "alert" }, t.done.unsaved),
    toSave ? choices(save, receipt) : receipt,
    model.saved === "saving" && h("p", { role: "status" }, t.done.saving),
    model.saved === "saving" && bar,
    toSave && model.saved === "no" && h("p", { class: "small" }, keeps),
    ...(model.saved === "offered" ? after : []),
    (erased || model.saved === "offered") && h("p", { class: "small" }, stays),
    model.receipt &&
      receiptSummary(
        model.receipt,
        t,
        delivered.confirmed && h("p", { class: "small proves" }, t.done.proves),
      ),
  ];
  return { children, update: ({ saving }) => (bar.value = saving) };
}

/** "12 of 13, 9 MB": the entries that arrived, and their bytes. */
export function deliveredOf(receipt: ReceiptSummary, all: Messages): string {
  const [there, every] = [receipt.deliveredEntries, receipt.entries].map((count) =>
    count.toLocaleString(all.locale),
  );
  return `${all.of(there!, every!)} ${all.receipt.entries}, ${bytes(receipt.deliveredBytes, all)}`;
}

/** What the receipt says. */
export function receiptSummary(
  receipt: ReceiptSummary,
  all: Messages,
  proves: Child = null,
): HTMLElement {
  const rows = receiptRows(receipt, all);
  const list = rows.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, ...value)]);
  return h(
    "details",
    { class: "list" },
    h("summary", {}, all.receipt.show),
    proves,
    h("dl", { class: "small" }, ...list),
  );
}

/** "Sent to “Dr. Weber”". */
export function headingOf({ sent, receipt }: HistoryEntry, all: Messages): string {
  const peer = all.quoted(sent ? receipt.recipient : receipt.sender);
  return (sent ? all.history.sent : all.history.received)(peer);
}

/** Each thing that a receipt says, by its name. */
export function receiptRows(receipt: ReceiptSummary, all: Messages): [string, Child[]][] {
  const t = all.receipt;
  const key = (label: string, print: string) => [
    h("b", { dir: "auto" }, all.quoted(label)),
    h("br"),
    h("code", {}, print),
  ];
  return [
    [t.transfer, [h("code", {}, receipt.id)]],
    [t.sender, key(receipt.sender, receipt.senderKey)],
    [t.recipient, key(receipt.recipient, receipt.recipientKey)],
    [t.delivered, [deliveredOf(receipt, all)]],
    [t.root, [h("code", {}, receipt.root)]],
    ...(receipt.purpose ? [[t.purpose, [all.purposes[receipt.purpose]]] as [string, Child[]]] : []),
    [t.digits, [receipt.digitsConfirmed ? t.compared : t.notCompared]],
    [t.offered, [receipt.offered]],
    [t.verified, [receipt.verified]],
    [t.signed, [receipt.confirmed ? t.byBoth : t.byOne]],
  ];
}
