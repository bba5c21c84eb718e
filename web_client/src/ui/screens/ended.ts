/** Ended without files: one sentence, and what can be done. */
import type { Code } from "../../protocol/errors";
import type { Details } from "../messages/en";
import { button, commandLine, h, title, type Context, type Screen } from "../elements";
import type { Model } from "../model";

const HOPELESS: readonly Code[] = ["declined", "link_invalid", "expired", "cancelled", "disarmed"];
const UNREACHED: readonly Code[] = ["no_connection", "server_unreachable", "connection_lost_early"];
const BY_COMMAND: readonly Code[] = ["no_space", "not_writable", "internal", "disk_error"];

export function ended(model: Model, { t, actions }: Context): Screen {
  const code = model.code || "internal";
  const known = Object.hasOwn(t.details, model.detail);
  const detail = known ? t.details[model.detail as keyof Details] : model.detail;
  const sentence = t.failures[code].replace("{detail}", () => detail);
  const cut = sentence.search(/[.:;] /) + 1;
  const [head, rest] = cut > 0 ? [sentence.slice(0, cut - 1), sentence.slice(cut)] : [sentence, ""];
  const byCommand = BY_COMMAND.includes(code);
  const children = [
    title(head.replace(/\.$/, "")),
    rest &&
      h(
        "p",
        {},
        rest.trim().replace(/^./, (letter) => letter.toUpperCase()),
      ),
    !HOPELESS.includes(code) && button(t.ended.again, () => actions.again()),
    UNREACHED.includes(code) && button(t.check.title, () => actions.check(), "quiet"),
    byCommand && h("p", {}, t.ended.commandLine),
    byCommand && commandLine(),
  ];
  return { children };
}
