/** On the way to the offer: connecting, waiting to be let in, comparing digits. */
import {
  button,
  choices,
  h,
  peerCard,
  title,
  usualCauses,
  type Context,
  type Screen,
} from "../elements";
import type { Model } from "../model";

export function working(model: Model, { t, actions }: Context): Screen {
  const { state } = model;
  if (model.role === "sender") return makingLink(model, { t, actions });
  const now = state === "connected" ? t.waiting : state === "offered" ? t.reading : t.connecting;
  const children = [
    title(now.title),
    h("p", { class: "busy" }, now.text),
    state === "connected" && peerCard(model, t),
    model.slow && state !== "connected" && usualCauses(t),
    button(t.running.stop, () => actions.command({ command: "stop" }), "quiet"),
  ];
  return { children };
}

/** Before the link stands. */
function makingLink(_: Model, { t, actions }: Pick<Context, "t" | "actions">): Screen {
  const children = [
    title(t.link.making),
    h("p", { class: "busy" }, t.link.makingText),
    button(t.runningSender.stop, () => actions.command({ command: "stop" }), "quiet"),
  ];
  return { children };
}

export function digits(model: Model, { t, answer }: Context): Screen {
  const children = [
    title(t.digits.title),
    h("p", {}, model.role === "sender" ? t.digits.textSender : t.digits.text),
    peerCard(model, t),
    choices(button(t.digits.yes, answer(true)), button(t.digits.no, answer(false), "quiet")),
  ];
  return { children };
}

/** The server lets only some create links: by a token, or after they have signed in. */
export function token({ signIn, tokenRefused }: Model, { t: all, answer }: Context): Screen {
  const t = all.token;
  const field = h("input", {
    id: "token",
    type: "password",
    autocomplete: "off",
    required: true,
    "aria-describedby": "token-hint",
  });
  const submit = (event: globalThis.Event) => {
    event.preventDefault();
    if (field.value.trim()) answer(field.value.trim())();
  };
  const path = signIn.startsWith("/") && !signIn.startsWith("//") ? signIn : "";
  const children = [
    title(t.title),
    h("p", {}, t.text),
    tokenRefused && h("p", { role: "alert", class: "warning" }, t.refused),
    path && h("p", {}, h("a", { class: "button primary", href: path, target: "_blank" }, t.signIn)),
    h(
      "form",
      { submit },
      h("label", { for: "token" }, t.label),
      field,
      h("p", { class: "hint", id: "token-hint" }, t.hint),
      h("button", { type: "submit", class: path ? "quiet" : "primary" }, t.go),
    ),
    button(t.stop, answer(false), "quiet"),
  ];
  return { children };
}
