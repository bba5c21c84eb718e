/** What is offered, by whom, and where it would go. */
import type { Offer } from "../../events";
import {
  button,
  bytes,
  choices,
  contentOf,
  h,
  peerCard,
  skippedOf,
  title,
  type Context,
  type Screen,
} from "../elements";
import type { Messages } from "../messages";
import type { Model } from "../model";

export function offered(model: Model, { t: all, actions, answer }: Context): Screen {
  const t = all.offer;
  const offer = model.offer!;
  const saving = (offer.single ? t.saveSingle : t.saveArchive)(offer.name, model.persisted);
  const tight = offer.tight ? t.tight : "";
  const memory = `${offer.small ? t.small : t.private} ${t.memory}`;
  const space = { disk: tight, memory, none: t.none }[offer.where];
  const noted = offer.where !== "disk" || offer.tight;
  const folder = actions.canChooseFolder;
  const none = offer.where === "none";
  const emergency = offer.purpose === "emergency";
  // Which button stands out.
  const [yes, no] = model.peer?.changed ? ["quiet", "primary"] : ["primary", "quiet"];
  const intoFolder = async () => {
    const chosen = await actions.chooseFolder();
    if (chosen) answer(chosen)();
  };
  const children = [
    title(t.title(contentOf(offer, all))),
    peerCard(model, all),
    offer.purpose &&
      h("p", emergency ? { class: "note" } : {}, t.purpose(all.purposes[offer.purpose])),
    offer.reason && h("p", {}, t.reason(all.quoted(offer.reason))),
    list(offer, all),
    offer.hidden > 0 && namesOf(t.hidden(offer.hidden), offer.hiddenNames, offer.hidden, all),
    offer.renamed > 0 &&
      namesOf(
        t.renamed(offer.renamed),
        offer.renamedNames.map(([path, original]) => t.before(path, original)),
        offer.renamed,
        all,
      ),
    skippedOf(offer, all),
    !none && h("p", {}, saving, " ", noted ? "" : space),
    noted && h("p", { class: "note" }, space),
    folder && h("p", { class: "small" }, t.folderHint),
    model.folderRefused && h("p", { class: "note", role: "alert" }, t.folderRefused),
    choices(
      !none && button(t.accept, answer(true), yes),
      folder && button(t.folder, () => void intoFolder(), none ? yes : "quiet"),
      button(t.decline, answer(false), no),
    ),
  ];
  return { children };
}

/** Names that a person is to notice before saying yes. */
function namesOf(title: string, names: readonly string[], count: number, t: Messages): HTMLElement {
  const rows = names.map((name) => h("li", { dir: "auto" }, name));
  const rest = count - names.length;
  if (rest > 0) rows.push(h("li", {}, t.more(rest)));
  return h("div", { class: "note" }, h("p", {}, title), h("ul", {}, ...rows));
}

/** The first entries as a tree; folders open at the top only. */
function list(offer: Offer, t: Messages): HTMLElement {
  const root = h("ul", { class: "tree" });
  const folders = new Map<string, HTMLElement>([["", root]]);
  const folder = (path: string): HTMLElement => {
    const known = folders.get(path);
    if (known) return known;
    const at = path.lastIndexOf("/");
    const inside = h("ul", {});
    const summary = h("summary", { dir: "auto" }, path.slice(at + 1));
    const details = h("details", { open: at < 0 }, summary, inside);
    folder(path.slice(0, Math.max(at, 0))).append(h("li", {}, details));
    folders.set(path, inside);
    return inside;
  };
  for (const [path, length, directory] of offer.entries) {
    if (directory) folder(path);
    else {
      const at = path.lastIndexOf("/");
      folder(path.slice(0, Math.max(at, 0))).append(
        h(
          "li",
          { class: "file" },
          h("span", { dir: "auto" }, path.slice(at + 1)),
          h("span", { class: "size" }, bytes(length, t)),
        ),
      );
    }
  }
  const rest = offer.files + offer.folders - offer.entries.length;
  if (rest > 0) root.append(h("li", { class: "more" }, t.more(rest)));
  const few = offer.entries.length <= 12;
  return h("details", { class: "list", open: few }, h("summary", {}, t.offer.list), root);
}
