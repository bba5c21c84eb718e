/** What is to be sent, who sends it, and how the link is made. */
import type { Selected } from "../../events";
import { MAX_REASON, PURPOSES, PURPOSE_CODES, type PurposeCode } from "../../protocol/purposes";
import {
  button,
  bytes,
  choices,
  h,
  labelField,
  title,
  type Child,
  type Context,
  type Screen,
} from "../elements";
import type { Messages } from "../messages";
import type { Model } from "../model";

const HOURS = [1, 8, 24]; // that a link may be good for
const SHOWN = 12; // names before the list is folded

export function choose(model: Model, { t: all, actions }: Context): Screen {
  const t = all.choose;
  const selected = model.selected!;
  const label = labelField(model);
  const asked = model.policy;
  const require = asked?.require ?? null;
  const passphrase = h("input", {
    id: "passphrase",
    type: "text",
    autocomplete: "off",
    spellcheck: "false",
    required: require === "passphrase",
    "aria-describedby": "passphrase-hint",
    invalid: () => (options.open = true), // where it can be seen
  });
  const most = asked?.max_expires ?? Infinity; // seconds
  const allowed = HOURS.map((one) => one * 3600).filter((one) => one < most);
  if (most < Infinity) allowed.push(most);
  const longest = allowed.at(-1)!;
  const times = allowed.map((one) =>
    h(
      "option",
      { value: String(one), selected: one === longest },
      one % 3600 ? t.minutes(Math.floor(one / 60)) : t.hours(one / 3600),
    ),
  );
  const expires = h("select", { id: "expires" }, ...times);
  const verify = h("input", {
    id: "verify",
    type: "checkbox",
    checked: require === "digits",
    disabled: require === "digits",
  });
  const known = model.contacts.map(({ name, fingerprint }) =>
    h("option", { value: fingerprint }, `${name} (${fingerprint.slice(0, 9)})`),
  );
  const to = h("select", { id: "to" }, h("option", { value: "" }, t.anybody), ...known);
  const purposes = PURPOSE_CODES.map((code) =>
    h("option", { value: code }, all.purposes[PURPOSES[code]]),
  );
  const purpose = h(
    "select",
    { id: "purpose" },
    h("option", { value: "" }, t.noPurpose),
    ...purposes,
  );
  const reason = h("input", {
    id: "reason",
    type: "text",
    autocomplete: "off",
    "aria-describedby": "reason-hint",
    invalid: () => (options.open = true), // where it can be seen
  });
  const check = () => {
    const missing = purpose.value === "ETREAT" && !reason.value.trim();
    const long = new TextEncoder().encode(reason.value.trim()).length > MAX_REASON;
    reason.setCustomValidity(missing ? t.reasonMissing : long ? t.reasonLong : "");
  };
  purpose.addEventListener("change", check);
  reason.addEventListener("input", check);
  const options = h(
    "details",
    { class: "list options", open: require !== null },
    h("summary", {}, t.options),
    require && h("p", { class: "note" }, all.policy[require]),
    h("label", { for: "passphrase" }, t.passphrase),
    passphrase,
    h("p", { class: "hint", id: "passphrase-hint" }, t.passphraseHint),
    h("label", { for: "expires" }, t.expires),
    expires,
    h("label", { for: "purpose" }, t.purpose),
    purpose,
    h("label", { for: "reason" }, t.reason),
    reason,
    h("p", { class: "hint", id: "reason-hint" }, t.reasonHint),
    ...(known.length ? [h("label", { for: "to" }, t.to), to] : []),
    h("label", { class: "box" }, verify, ` ${t.verify}`),
  );
  const submit = (event: globalThis.Event) => {
    event.preventDefault();
    check(); // what was typed may have been put back without an event
    if (!reason.reportValidity()) return;
    const how = {
      origin: location.origin,
      label: label.value.trim(),
      passphrase: passphrase.value.trim() || null,
      expires: Number(expires.value || longest), // what was chosen before may be gone
      verify: verify.checked,
      to: to.value,
      purpose: (purpose.value || null) as PurposeCode | null,
      reason: reason.value.trim(),
    };
    actions.command({ command: "send", options: how });
  };
  const heading = title("");
  const reading = h("p", { class: "busy", role: "status" }, t.reading);
  const go = h("button", { type: "submit", class: "primary" }, t.go);
  const children = [
    heading,
    reading,
    namesOf(selected, all, actions),
    selected.refused.length > 0 &&
      h("p", { class: "note", role: "alert" }, t.refused(selected.refused.join(", "))),
    choices(
      button(t.more, () => actions.choose("files"), "quiet"),
      button(t.moreFolder, () => actions.choose("folder"), "quiet"),
    ),
    h(
      "form",
      { submit },
      h("label", { for: "label" }, t.label),
      label,
      h("p", { class: "hint", id: "label-hint" }, t.labelHint),
      options,
      go,
    ),
    !model.protected && h("p", { class: "small" }, t.unprotected),
  ];
  const update = ({ selected: now }: Model) => {
    const what = whatOf(now!, all);
    if (heading.textContent !== what) heading.textContent = what;
    reading.hidden = !now!.busy;
    go.disabled = !now!.count;
  };
  return { children, update };
}

/** "Send 3 files in 1 folder, 12 MB". */
function whatOf({ files, folders, size }: Selected, t: Messages): string {
  const counted = folders ? t.inFolders(t.files(files), t.folders(folders)) : t.files(files);
  return t.choose.title(`${counted}, ${bytes(size, t)}`);
}

/** The top names, each with a way to leave it out again. */
function namesOf({ names, count }: Selected, t: Messages, actions: Context["actions"]): Child {
  const rows = names.map(({ name, number }) =>
    h(
      "li",
      { class: "file" },
      h("span", { dir: "auto" }, name),
      h(
        "button",
        {
          type: "button",
          class: "remove",
          "aria-label": t.choose.remove(name),
          click: () => actions.command({ command: "unpick", number }),
        },
        "×",
      ),
    ),
  );
  if (count > names.length) rows.push(h("li", { class: "more" }, t.more(count - names.length)));
  const open = count <= SHOWN;
  const list = h("ul", { class: "tree" }, ...rows);
  return h("details", { class: "list", open }, h("summary", {}, t.choose.list), list);
}
