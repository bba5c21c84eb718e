/** For somebody who has no link yet: send files, open a link, take up what was cut. */
import type { Unfinished } from "../../events";
import {
  asking,
  button,
  bytes,
  choices,
  h,
  more,
  title,
  type Context,
  type Screen,
} from "../elements";
import type { Model } from "../model";

export function home(model: Model, { t: all, actions }: Context): Screen {
  const t = all.home;
  const field = h("input", {
    id: "link",
    type: "text",
    autocomplete: "off",
    spellcheck: "false",
    required: true,
    "aria-describedby": "link-hint",
  });
  // A field of one line loses the breaks of a link that a mail program wrapped: they are kept here.
  let pasted = "";
  const keepBreaks = (event: globalThis.Event) => {
    pasted = (event as ClipboardEvent).clipboardData?.getData("text/plain") ?? "";
  };
  field.addEventListener("paste", keepBreaks);
  const given = () => (field.value === pasted.replace(/[\r\n]/g, "") ? pasted : field.value);
  const submit = (event: globalThis.Event) => {
    event.preventDefault();
    if (field.value.trim()) actions.open(given());
  };
  const children = [
    title(t.title),
    h("p", {}, t.text),
    model.gone && h("p", { class: "note", role: "alert" }, t.gone),
    ...model.unfinished.map((one) => unfinished(one, { t: all, actions })),
    h("h2", {}, t.send),
    h("p", {}, t.drop),
    choices(
      button(t.files, () => actions.choose("files"), model.unfinished.length ? "quiet" : "primary"),
      button(t.folder, () => actions.choose("folder"), "quiet"),
    ),
    !model.lasting && h("p", { class: "note" }, t.private),
    h("h2", {}, t.receive),
    h(
      "form",
      { submit, class: "inline" },
      h("label", { for: "link" }, t.link),
      field,
      h("p", { class: "hint", id: "link-hint" }, t.linkHint),
      h("button", { type: "submit", class: "quiet" }, t.open),
    ),
    choices(
      button(t.history, () => actions.history(), "quiet"),
      button(all.check.title, () => actions.check(), "quiet check-computer"),
    ),
    more(all, h("p", { class: "small" }, t.trust)),
  ];
  return { children };
}

/** One that a reload or a crash has cut. */
function unfinished(
  { transferId, files, size, durable, peer }: Unfinished,
  { t: all, actions }: Pick<Context, "t" | "actions">,
): HTMLElement {
  const t = all.home;
  const what = `${all.files(files)}, ${bytes(size, all)}`;
  const part = all.of(bytes(durable, all), bytes(size, all));
  return h(
    "div",
    { class: "note" },
    h("p", {}, peer ? t.unfinished(what, all.quoted(peer)) : t.unopened(what)),
    peer ? h("p", {}, t.arrived(part)) : null,
    choices(
      button(t.takeUp, () => actions.takeUp(transferId, false)),
      asking(t.drop_, t.dropSure, () => actions.command({ command: "drop", transferId })),
    ),
  );
}
