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
  const now = state === "waiting" ? t.waiting : state === "reading" ? t.reading : t.connecting;
  const children = [
    title(now.title),
    h("p", { class: "busy" }, now.text),
    state === "waiting" && peerCard(model, t),
    model.slow && state !== "waiting" && usualCauses(t),
    button(t.running.stop, () => actions.command({ command: "stop" }), "quiet"),
  ];
  return { children };
}

export function digits(model: Model, { t, answer }: Context): Screen {
  const children = [
    title(t.digits.title),
    h("p", {}, t.digits.text),
    peerCard(model, t),
    choices(button(t.digits.yes, answer(true)), button(t.digits.no, answer(false), "quiet")),
  ];
  return { children };
}
