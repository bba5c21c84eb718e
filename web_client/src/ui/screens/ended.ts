/** Ended without files: one sentence, and what can be done. */
import type { Code } from "../../protocol/errors";
import {
  button,
  choices,
  commandLine,
  detailOf,
  h,
  title,
  type Context,
  type Screen,
} from "../elements";
import type { Model } from "../model";

const HOPELESS: readonly Code[] = [
  "link_invalid",
  "expired",
  "cancelled",
  "peer_cancelled",
  "disarmed",
];
const OVER: readonly string[] = ["link_expired", "link_closed", "link_disabled", "declined_here"];

/** Whether a link is of no more use after it ended so. */
export const isOver = (code: string, detail: string): boolean =>
  (HOPELESS as readonly string[]).includes(code) || OVER.includes(detail);
const UNREACHED: readonly Code[] = ["no_connection", "server_unreachable", "connection_lost_early"];
const BY_COMMAND: readonly Code[] = ["no_space", "not_writable", "internal"];

export function ended(model: Model, { t, actions }: Context): Screen {
  const code = model.code || "internal";
  const sends = model.role === "sender";
  const failures = sends ? t.failuresSender : t.failures;
  const { because } = t.ended;
  const sentence =
    model.detail === "no_candidates"
      ? t.check.sentences.no_candidates
      : !sends && Object.hasOwn(because, model.detail)
        ? because[model.detail as keyof typeof because]
        : failures[code].replace("{detail}", () => detailOf(model.detail, model.values, t));
  const cut = sentence.search(/[.:;] /) + 1;
  const [head, rest] = cut > 0 ? [sentence.slice(0, cut - 1), sentence.slice(cut)] : [sentence, ""];
  const byCommand = BY_COMMAND.includes(code);
  const again = !sends && !isOver(code, model.detail);
  const children = [
    title(head.replace(/\.$/, "")),
    rest &&
      h(
        "p",
        {},
        rest.trim().replace(/^./, (letter) => letter.toUpperCase()),
      ),
    choices(
      again &&
        button(t.ended.again, () => actions.again(), code === "not_found" ? "quiet" : "primary"),
      UNREACHED.includes(code) &&
        button(t.check.title, () => actions.check(), "quiet check-computer"),
      button(t.ended.home, () => actions.home(), sends ? "primary" : "quiet"),
    ),
    byCommand && !sends && h("p", {}, t.ended.commandLine),
    byCommand && !sends && commandLine(),
  ];
  return { children };
}
