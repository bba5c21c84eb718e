/** The link, who can use it, and who comes. */
import type { LinkMade } from "../../events";
import {
  button,
  choices,
  detailOf,
  h,
  peerCard,
  title,
  type Actions,
  type Child,
  type Context,
  type Screen,
} from "../elements";
import type { Messages } from "../messages";
import type { Model } from "../model";

const SVG = "http://www.w3.org/2000/svg";
const COPIED_MS = 4000;

export function link(model: Model, { t, actions }: Context): Screen {
  const made = model.link!;
  const { state } = model;
  const came = model.peer !== null && state !== "waiting";
  const letIn = state === "admitted" || state === "offered";
  const heading = came ? (letIn ? t.link.letIn : t.link.came) : t.link.title;
  const children = [
    title(heading),
    came && peerCard(model, t),
    h("p", { class: "busy", role: "status" }, t.statesSender[state] ?? t.statesSender.waiting),
    ...(came ? [linkAgain(made, t, actions)] : linkCard(made, t, actions)),
    warningsOf(model, t),
    button(t.link.withdraw, () => actions.command({ command: "stop" }), "quiet"),
  ];
  return { children };
}

export function admit(model: Model, { t, answer, actions }: Context): Screen {
  const [yes, no] = model.peer?.changed ? ["quiet", "primary"] : ["primary", "quiet"];
  const children = [
    title(t.admit.title),
    h("p", {}, t.admit.text),
    peerCard(model, t),
    choices(button(t.admit.yes, answer(true), yes), button(t.admit.no, answer(false), no)),
    button(t.link.withdraw, () => actions.command({ command: "stop" }), "quiet"),
  ];
  return { children };
}

/** The link once more, folded away. */
export function linkAgain(made: LinkMade, t: Messages, actions: Actions): HTMLElement {
  return h(
    "details",
    { class: "list" },
    h("summary", {}, t.link.again),
    ...linkCard(made, t, actions),
  );
}

/** The link as text, to copy, as a QR code and by e-mail; and who can use it. */
function linkCard(made: LinkMade, t: Messages, actions: Actions): Child[] {
  const field = h("input", {
    id: "made",
    type: "text",
    readonly: true,
    value: made.link,
    "aria-label": t.link.title,
    focus: () => field.select(),
  });
  const copied = h("span", { role: "status", class: "small" });
  const copy = async () => {
    copied.textContent = (await actions.copy(made.link)) ? t.link.copied : t.link.notCopied;
    setTimeout(() => (copied.textContent = ""), COPIED_MS);
  };
  const until = new Date(made.expiresAt).toLocaleString(t.locale, {
    dateStyle: "medium",
    timeStyle: "short",
  });
  const who = made.contact ? t.link.contact(t.quoted(made.contact)) : t.link.who;
  return [
    field,
    choices(
      button(t.link.copy, () => void copy()),
      h("a", { class: "button quiet", href: mail(made.link, t) }, t.link.mail),
    ),
    copied,
    h(
      "p",
      {},
      [t.link.until(until), who, made.passphrase && t.link.passphrase].filter(Boolean).join(" "),
    ),
    h("details", { class: "list" }, h("summary", {}, t.link.qr), qrCode(made, t)),
  ];
}

/** A mail with the link in its body alone: subjects are logged. */
const mail = (link: string, t: Messages): string =>
  `mailto:?subject=${encodeURIComponent(t.link.subject)}&body=${encodeURIComponent(t.link.body(link))}`;

function qrCode({ qr }: LinkMade, t: Messages): Child {
  const rows = qr.split("\n");
  const size = String(rows.length);
  const dark = rows.flatMap((row, y) =>
    [...row].flatMap((module, x) => (module === "1" ? [`M${x} ${y}h1v1h-1z`] : [])),
  );
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${size} ${size}`);
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", t.link.qr);
  svg.setAttribute("class", "qr");
  svg.setAttribute("shape-rendering", "crispEdges");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", dark.join(""));
  svg.append(path);
  return svg;
}

/** What was left out or done otherwise, and who tried in vain. */
export function warningsOf({ warnings, warned }: Model, t: Messages): Child {
  if (!warnings.length) return null;
  const last = warnings.findLastIndex(({ code }) => code === "guesses_left"); // it counts down
  const told = warnings.filter(({ code }, at) => code !== "guesses_left" || at === last);
  const rows = told.map(({ code, path, detail }) => {
    const words =
      (t.warnings as { [code: string]: string })[code] ?? t.failuresSender[code as never];
    const sentence =
      detail === "no_candidates"
        ? t.check.sentences.no_candidates
        : words.replace("{detail}", () => detailOf(detail, {}, t));
    return h("li", { dir: "auto" }, path ? `${path}: ${sentence}` : sentence);
  });
  const before = warned - warnings.length;
  const more = before > 0 && h("li", {}, t.more(before));
  return h("div", { class: "note" }, h("ul", {}, ...rows, more));
}
