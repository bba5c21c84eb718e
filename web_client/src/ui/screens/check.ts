/** The check of this computer: a line for each thing that was tried, and what to tell IT. */
import type { Finding } from "../../events";
import { button, bytes, choices, h, title, type Context, type Screen } from "../elements";
import type { Messages } from "../messages";
import type { Details } from "../messages/en";
import type { Model } from "../model";

export function check({ findings, checked }: Model, { t, actions }: Context): Screen {
  const rows = findings.map((one) =>
    h(
      "li",
      { "data-verdict": one.verdict },
      h("b", {}, `${t.check.verdicts[one.verdict]}: ${t.check.names[one.name]}`),
      h("br"),
      sentenceOf(one, t),
    ),
  );
  const result = checked && t.check.paths[checked];
  const children = [
    title(t.check.title),
    h("p", { class: checked ? "" : "busy", role: "status" }, result ?? t.check.text),
    h("ul", { class: "findings" }, ...rows),
    choices(
      checked &&
        button(
          t.check.copy,
          () => void navigator.clipboard.writeText(textOf(findings, result!, t)),
        ),
      button(t.check.back, () => actions.again(), "quiet"),
    ),
  ];
  return { children };
}

/** All of it as text, to send to IT. */
function textOf(findings: readonly Finding[], result: string, t: Messages): string {
  const lines = findings.map(
    (one) => `${t.check.verdicts[one.verdict]}: ${t.check.names[one.name]}. ${sentenceOf(one, t)}`,
  );
  const where = `${t.check.title}: ${location.host}, ${new Date().toISOString()}`;
  return [where, navigator.userAgent, ...lines, result, ""].join("\n");
}

function sentenceOf({ code, values }: Finding, t: Messages): string {
  const sentence = t.check.sentences[code as keyof typeof t.check.sentences];
  return sentence.replace(/\{(\w+)\}/g, (_, name: string) => {
    if (name === "free") return bytes(Number(values["bytes"]), t);
    if (name === "rate") return bytes(Number(values["rate"]), t);
    const value = String(values[name]);
    const known = name === "why" && Object.hasOwn(t.details, value);
    return known ? t.details[value as keyof Details] : value;
  });
}
