/** Before anything is under way: no support, another tab, and the welcome of a recipient. */
import {
  button,
  bytes,
  commandLine,
  h,
  labelField,
  more,
  title,
  type Context,
  type Screen,
} from "../elements";
import type { Model } from "../model";

export const unsupported = (model: Model, { t }: Context): Screen => ({
  children: [
    title(t.unsupported.title),
    h("p", {}, t.unsupported.text(model.detail)),
    commandLine(),
  ],
});

export const elsewhere = (_: Model, { t }: Context): Screen => ({
  children: [title(t.elsewhere.title), h("p", {}, t.elsewhere.text)],
});

export function welcome(model: Model, { t: all, actions }: Context): Screen {
  const t = all.welcome;
  const label = labelField(model);
  const passphrase = h("input", {
    id: "passphrase",
    type: "password",
    autocomplete: "off",
    required: true,
    "aria-describedby": "passphrase-hint",
    autofocus: Boolean(model.label),
  });
  const { earlier } = model;
  const part = earlier && all.of(bytes(earlier.durable, all), bytes(earlier.total, all));
  const submit = (event: globalThis.Event) => {
    event.preventDefault();
    actions.command({
      command: "start",
      label: label.value.trim(),
      passphrase: model.passphrase ? passphrase.value : null,
      folders: actions.canChooseFolder,
    });
  };
  const children = [
    title(earlier ? t.earlierTitle : t.title),
    h("p", {}, part ? t.earlier(part) : t.text),
    model.erased && h("p", { class: "note" }, t.erased, " ", model.receiptKept && t.receiptKept),
    !model.lasting && h("p", { class: "note" }, t.private),
    h(
      "form",
      { submit },
      h("label", { for: "label" }, t.label),
      label,
      h("p", { class: "hint", id: "label-hint" }, t.labelHint),
      ...(model.passphrase
        ? [
            h("label", { for: "passphrase" }, t.passphrase),
            passphrase,
            h("p", { class: "hint", id: "passphrase-hint" }, t.passphraseHint),
          ]
        : []),
      h("button", { type: "submit", class: "primary" }, t.go),
    ),
    h("p", { class: "small" }, t.unexpected),
    more(
      all,
      h("p", { class: "small" }, `${t.trust} `, h("code", {}, "handover receive"), "."),
      button(all.check.title, () => actions.check(), "quiet check-computer"),
    ),
  ];
  return { children };
}
