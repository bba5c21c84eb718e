/** After a reload or a crash: the same files once more, and what is not as it was. */
import {
  button,
  bytes,
  choices,
  h,
  title,
  type Child,
  type Context,
  type Screen,
} from "../elements";
import type { Model } from "../model";

const SHOWN = 50; // names

export function chooseAgain(model: Model, { t: all, actions }: Context): Screen {
  const t = all.again;
  const { transferId, files, size, handles } = model.again!;
  const what = `${all.files(files)}, ${bytes(size, all)}`;
  const chosen = model.selected?.count ? model.selected : null;
  const again = choices(
    button(
      all.home.files,
      () => actions.choose("files"),
      handles.length || chosen ? "quiet" : "primary",
    ),
    button(all.home.folder, () => actions.choose("folder"), "quiet"),
  );
  const before = handles.length
    ? [
        title(t.allowTitle),
        h("p", {}, t.allow(what)),
        !chosen && button(t.allowGo, () => void actions.allow(transferId, handles)),
        h("p", {}, t.orChoose),
      ]
    : [title(t.title), h("p", {}, t.text(what))];
  const children = [
    ...before,
    again,
    chosen &&
      h("p", { role: "status" }, t.chosen(all.files(chosen.files), bytes(chosen.size, all))),
    chosen && button(t.go, () => actions.takeUp(transferId, true)),
  ];
  return { children };
}

export function differences(model: Model, { t: all, actions }: Context): Screen {
  const t = all.again;
  const { missing, changed } = model.differences!;
  const count = missing.length + changed.length;
  const children = [
    title(t.differ(all.files(count))),
    namesOf(t.missing, missing),
    namesOf(t.changed, changed),
    h("p", {}, t.differText),
    choices(
      button(t.goOn, () => actions.command({ command: "go_on" })),
      button(t.back, () => actions.again(), "quiet"),
    ),
  ];
  return { children };
}

function namesOf(heading: string, names: readonly string[]): Child {
  if (!names.length) return null;
  const rows = names.slice(0, SHOWN).map((name) => h("li", { dir: "auto" }, name));
  if (names.length > SHOWN) rows.push(h("li", {}, "…"));
  return h("div", { class: "note" }, h("p", {}, heading), h("ul", { class: "failed" }, ...rows));
}
