/**
 * How elements are made, and the pieces that several screens share. No framework: ten screens of one
 * card need a function that makes elements; text is only ever set as text.
 */
import type { Answer, Command, Offer, Progress } from "../events";
import type { Values } from "../protocol/errors";
import { size, type Language, type Messages } from "./messages";
import type { Details } from "./messages/en";
import type { Model } from "./model";

export type Child = Node | string | null | false | undefined;
type Attributes = { [name: string]: string | boolean | ((event: globalThis.Event) => void) };

/** An element: attributes, listeners (functions) and children; text goes in as text. */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false) element.setAttribute(name, value);
  }
  element.append(...children.filter((child): child is Node | string => Boolean(child)));
  return element;
}

/** What the page does beside showing: it hears commands, and clicks that need a gesture. */
export interface Actions {
  command(command: Command): void;
  again(): void;
  /** Check this computer. */
  check(): void;
  /** Open a link that was typed or pasted. */
  open(link: string): void;
  /** Let the person choose what to send, or the same once more after a reload. */
  choose(kind: "files" | "folder"): void;
  /** Ask the platform to let us read by these handles again. */
  allow(transferId: string, handles: readonly FileSystemHandle[]): Promise<void>;
  takeUp(transferId: string, granted: boolean): void;
  history(): void;
  /** To the first screen. */
  home(): void;
  /** Into the clipboard; whether it is there. */
  copy(text: string): Promise<boolean>;
  readonly canChooseFolder: boolean;
  chooseFolder(): Promise<FileSystemDirectoryHandle | null>;
  /** Save what arrived under this name, or where the person chooses. */
  save(name: string): Promise<void>;
  language(language: Language): void;
  /** Whether the question stands if the person really wants to stop. */
  stopping(asked: boolean): void;
}

/** What a screen is made with: the words of a language, and what clicks do. */
export interface Context {
  readonly t: Messages;
  readonly actions: Actions;
  /** A click that answers the question of this screen, once. */
  answer(answer: Answer): () => void;
}

/** A screen: what is in its card, and how it follows the model while it stays. */
export interface Screen {
  readonly children: Child[];
  readonly update?: (model: Model) => void;
}

export const title = (text: string): HTMLElement => h("h1", { tabindex: "-1" }, text);

export const button = (text: string, click: () => void, kind = "primary"): HTMLButtonElement =>
  h("button", { type: "button", class: kind, click }, text);

/** What not everybody needs, folded away. */
export const more = (t: Messages, ...children: Child[]): HTMLElement =>
  h("details", { class: "list more" }, h("summary", {}, t.more_), ...children);

/** What cannot be taken back: a button that asks first. */
export function asking(
  text: string,
  { question, yes, no }: Sure,
  click: () => void,
): HTMLButtonElement {
  const asks = button(text, ask, "quiet");
  function ask(): void {
    const stay = button(no, () => asked.replaceWith(asks));
    const asked = h(
      "div",
      { class: "note", role: "alert" },
      h("p", {}, question),
      choices(stay, button(yes, click, "quiet")),
    );
    asks.replaceWith(asked);
    stay.focus();
  }
  return asks;
}

/** The words of such a question. */
export interface Sure {
  readonly question: string;
  readonly yes: string;
  readonly no: string;
}

export const choices = (...buttons: Child[]): HTMLElement =>
  h("div", { class: "choices" }, ...buttons);

/** The way round the page's limits. */
export const commandLine = (): HTMLElement => h("pre", {}, h("code", {}, "handover receive"));

export const bytes = (count: number, t: Messages): string => size(count, t.locale);

/** A detail of a failure: a code of the catalogue, filled in, or what is safe to show. */
export function detailOf(detail: string, values: Values, t: Messages): string {
  const word = (text: string) =>
    Object.hasOwn(t.details, text) ? t.details[text as keyof Details] : text;
  return word(detail).replace(/\{(\w+)\}/g, (whole, name: string) =>
    Object.hasOwn(values, name) ? word(values[name]!) : whole,
  );
}

/** Whole percents that are on the disk for good. */
export const percentOf = ({ durable, total }: Progress): number =>
  total ? Math.floor((100 * durable) / total) : 100;

/** "3 files in 1 folder, 12 MB". */
export function contentOf(offer: Offer, t: Messages): string {
  const files = t.files(offer.files);
  const counted = offer.folders ? t.inFolders(files, t.folders(offer.folders)) : files;
  return `${counted}, ${bytes(offer.size, t)}`;
}

/** What the sender left out on purpose; null where that is nothing. */
export function skippedOf({ skipped }: Offer, t: Messages): Child {
  const all = Object.keys(t.skippedKinds) as (keyof typeof t.skippedKinds)[];
  const kinds = all.filter((kind) => skipped[kind]);
  if (!kinds.length) return null;
  const what = kinds.map((kind) => t.skippedKinds[kind](skipped[kind]!)).join(", ");
  return h("p", { class: "note" }, t.skipped(what));
}

const day = (time: string, t: Messages): string => new Date(time).toLocaleDateString(t.locale);

/** What is known of who is at the other end, who they say they are, and the digits to compare. */
export function peerCard({ peer, role }: Model, t: Messages): Child {
  if (!peer) return null;
  const label = peer.label ? t.quoted(peer.label) : t.peer.nameless;
  const known = (peer.verified ? t.peer.checked : t.peer.known)(
    t.quoted(peer.contact),
    day(peer.since, t),
  );
  return h(
    "div",
    { class: "peer" },
    // What this browser knows of it comes before what it says of itself.
    peer.changed
      ? h("p", { class: "warning", role: "alert" }, t.peer.changed(t.quoted(peer.changed)))
      : h("p", { class: "trust" }, peer.contact ? known : t.peer.fresh),
    h(
      "dl",
      {},
      h("dt", {}, role === "sender" ? t.peer.to : t.peer.from),
      h("dd", { class: "who", dir: "auto" }, label),
      h("dt", {}, t.peer.key),
      h("dd", {}, h("code", {}, peer.fingerprint)),
    ),
    h("p", { class: "digits-name" }, t.peer.digits),
    h("p", { class: "digits", id: "digits" }, peer.digits),
    h("p", { class: "hint" }, role === "sender" ? t.peer.compareSender : t.peer.compare),
  );
}

/** The field for this browser's name. */
export const labelField = ({ label }: Model): HTMLInputElement =>
  h("input", {
    id: "label",
    type: "text",
    autocomplete: "name",
    maxlength: "60",
    required: true,
    value: label,
    "aria-describedby": "label-hint",
    autofocus: !label,
  });

/** Why there may be no connection. */
export function usualCauses(t: Messages): HTMLElement {
  const causes = t.connecting.causes.map((cause) => h("li", {}, cause));
  const list = h("ul", {}, ...causes);
  return h("div", { class: "note", role: "status" }, h("p", {}, t.connecting.slow), list);
}
