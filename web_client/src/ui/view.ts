/**
 * The page: a model, what each event makes of it, and how it looks. The only file that touches the DOM.
 *
 * No framework: ten screens of one card, of which one is shown, need a function that makes elements
 * and one that replaces them; text is only ever set as text.
 */
import type {
  Answer,
  Command,
  Event,
  Offer,
  PeerMet,
  Progress,
  ReceiptFacts,
  StateName,
} from "../events";
import type { Delivered } from "../state/home";
import { LANGUAGES, size, type Language, type Messages } from "./messages/en";
import type { Code } from "../protocol/errors";

/** What the page knows; replaced, never changed. */
export interface Model {
  readonly screen:
    | "blank"
    | "no_link"
    | "unsupported"
    | "elsewhere"
    | "welcome"
    | "working" // connecting, waiting, reading
    | "digits"
    | "offer"
    | "running"
    | "done"
    | "ended";
  readonly state: StateName;
  readonly trouble: "" | "silent" | "lost";
  readonly passphrase: boolean;
  readonly label: string;
  readonly lasting: boolean;
  readonly earlier: { readonly durable: number; readonly total: number } | null;
  readonly slow: boolean;
  readonly peer: PeerMet | null;
  readonly offer: Offer | null;
  readonly progress: Progress | null;
  readonly stopping: boolean;
  readonly code: Code | "";
  readonly delivered: Delivered | null;
  readonly receipt: ReceiptFacts | null;
  readonly saved: "no" | "offered" | "removed";
}

export const START: Model = {
  screen: "blank",
  state: "connecting",
  trouble: "",
  passphrase: false,
  label: "",
  lasting: true,
  earlier: null,
  slow: false,
  peer: null,
  offer: null,
  progress: null,
  stopping: false,
  code: "",
  delivered: null,
  receipt: null,
  saved: "no",
};

/** What an event makes of the model. */
export function reduce(model: Model, event: Event): Model {
  switch (event.event) {
    case "ready": {
      const { passphrase, label, lasting, delivered } = event;
      const earlier = event.earlier?.durable ? event.earlier : null;
      const screen = delivered ? "done" : "welcome";
      return { ...model, screen, passphrase, label, lasting, earlier, delivered };
    }
    case "elsewhere":
      return { ...model, screen: "elsewhere" };
    case "state": {
      const { state } = event;
      if (state === "lost") return { ...model, trouble: "lost" };
      const running = ["receiving", "verifying", "signing"].includes(state);
      if (running) return { ...model, screen: "running", state, trouble: "", slow: false };
      if (model.screen === "running") return model; // it connects anew, behind the progress
      return { ...model, screen: "working", state, slow: model.slow && state === "connecting" };
    }
    case "silence":
      return { ...model, trouble: event.silent ? "silent" : "" };
    case "slow":
      return { ...model, slow: true };
    case "peer":
      return { ...model, peer: event };
    case "question":
      return { ...model, screen: event.kind === "digits" ? "digits" : "offer" };
    case "offer":
      return { ...model, offer: event };
    case "progress":
      return { ...model, progress: event };
    case "ended": {
      const { code, delivered } = event;
      return { ...model, screen: delivered ? "done" : "ended", code, delivered, stopping: false };
    }
    case "receipted":
      return { ...model, receipt: event.facts };
    case "file":
      return { ...model, saved: "offered" };
    case "discarded":
      return { ...model, saved: "removed" };
    default:
      return model;
  }
}

type Child = Node | string | null | false | undefined;
type Attributes = { [name: string]: string | boolean | ((event: globalThis.Event) => void) };

/** An element: attributes, listeners (functions) and children; text goes in as text. */
function h<K extends keyof HTMLElementTagNameMap>(
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
  readonly canChooseFolder: boolean;
  chooseFolder(): Promise<FileSystemDirectoryHandle | null>;
  language(language: Language): void;
}

const ANNOUNCE_SECONDS = 5; // a live region that speaks more often is noise
const STEP_OF: { [screen in Model["screen"]]?: number } = {
  welcome: 0,
  working: 0,
  digits: 1,
  offer: 1,
  running: 2,
  done: 3,
};

/** Shows the model. */
export class View {
  private shownKey = "";
  private update: (model: Model) => void = () => {};
  private announcedAt = 0;
  private announced = "";
  private readonly main = h("main", { tabindex: "-1" });
  private readonly status = h("p", { class: "unseen", role: "status", id: "status" });
  private readonly typed = new Map<string, string>(); // field -> what stood there
  private readonly steps = h("ol", { class: "steps" });
  private t: Messages = LANGUAGES.en;

  constructor(
    private language: Language,
    private readonly actions: Actions,
  ) {
    document.body.replaceChildren();
    this.frame();
  }

  /** Change the language; the same screen is built anew. */
  setLanguage(language: Language): void {
    this.language = language;
    for (const { id, value } of this.main.querySelectorAll("input")) this.typed.set(id, value);
    document.body.replaceChildren();
    this.frame();
    this.shownKey = "";
  }

  private frame(): void {
    const t = (this.t = LANGUAGES[this.language]);
    document.documentElement.lang = this.language;
    const languages = (Object.keys(LANGUAGES) as Language[]).map((language) =>
      h(
        "button",
        {
          type: "button",
          lang: language,
          "aria-pressed": String(language === this.language),
          click: () => this.actions.language(language),
        },
        LANGUAGES[language].language,
      ),
    );
    document.body.append(
      // Not a link: its fragment would take the place of the secret.
      h("button", { type: "button", class: "skip", click: () => this.main.focus() }, t.skip),
      h(
        "header",
        {},
        h("p", { class: "name" }, t.name),
        h(
          "div",
          { class: "languages", role: "group", "aria-label": "Language, Sprache" },
          ...languages,
        ),
      ),
      h("section", { "aria-label": t.stepsTitle }, this.steps),
      this.main,
      this.status,
    );
  }

  /** Bring the page to the model. */
  show(model: Model): void {
    const { screen, state, slow, saved, stopping, code, delivered } = model;
    const working = screen === "working" ? state : "";
    const key = [
      screen,
      working,
      slow,
      saved,
      stopping,
      code,
      delivered?.confirmed,
      model.receipt !== null,
    ].join();
    if (key !== this.shownKey) {
      const first = this.shownKey === "";
      const moved = key.split(",")[0] !== this.shownKey.split(",")[0];
      this.shownKey = key;
      this.update = () => {};
      const active = document.activeElement;
      const held = this.main.contains(active) ? active : null;
      this.main.replaceChildren(
        h("section", { class: `card ${model.screen}` }, ...this.screen(model)),
      );
      this.retype();
      this.showSteps(model);
      const title = this.main.querySelector("h1");
      const field = this.main.querySelector<HTMLElement>("[autofocus]");
      if (field) field.focus();
      else if (!first && moved) title?.focus();
      else if (held) (this.alike(held) ?? title)?.focus(); // the same screen, made anew
    }
    this.update(model);
    this.showTitle(model);
    this.announce(model);
  }

  /** What was typed before the screen was made anew. */
  private retype(): void {
    for (const field of this.main.querySelectorAll("input")) {
      field.value = this.typed.get(field.id) ?? field.value;
    }
    this.typed.clear();
  }

  private alike(element: Element): HTMLElement | undefined {
    const candidates = this.main.querySelectorAll<HTMLElement>(element.localName);
    return [...candidates].find((one) => one.textContent === element.textContent);
  }

  private showSteps(model: Model): void {
    const step = STEP_OF[model.screen] ?? -1;
    this.steps.hidden = step < 0;
    const items = this.t.steps.map((name, index) =>
      h(
        "li",
        index === step ? { "aria-current": "step" } : index < step ? { class: "past" } : {},
        name,
      ),
    );
    this.steps.replaceChildren(...items);
  }

  private showTitle(model: Model): void {
    const { progress } = model;
    const running = model.screen === "running" && progress;
    const percent = running ? `${this.percent(progress)} % – ` : "";
    document.title = `${percent}${this.t.name}`;
  }

  private percent({ durable, total }: Progress): number {
    return total ? Math.floor((100 * durable) / total) : 100;
  }

  /** For who does not see the page: what changed, at a human pace. */
  private announce(model: Model): void {
    const { screen, state, trouble, progress } = model;
    if (screen !== "running") {
      [this.announced, this.status.textContent] = ["", ""];
      return;
    }
    const rough = progress && state === "receiving" ? Math.floor(this.percent(progress) / 10) : "";
    const now = performance.now() / 1000;
    const said = `${trouble || state} ${rough}`;
    const changed = said.split(" ")[0] !== this.announced.split(" ")[0];
    const due = changed || now - this.announcedAt >= ANNOUNCE_SECONDS;
    if (said === this.announced || !due) return;
    [this.announced, this.announcedAt] = [said, now];
    const percent = rough === "" ? "" : `, ${this.t.percent(10 * rough)}`;
    const words = trouble ? this.t.running[trouble] : this.t.states[state];
    this.status.textContent = `${words}${percent}`;
  }

  // --- screens

  private screen(model: Model): Child[] {
    const { t } = this;
    switch (model.screen) {
      case "blank":
        return [];
      case "no_link":
        return [this.title(t.noLink.title), h("p", {}, t.noLink.text)];
      case "unsupported":
        return [
          this.title(t.unsupported.title),
          h("p", {}, t.unsupported.text),
          this.commandLine(),
        ];
      case "elsewhere":
        return [this.title(t.elsewhere.title), h("p", {}, t.elsewhere.text)];
      case "welcome":
        return this.welcome(model);
      case "working":
        return this.working(model);
      case "digits":
        return this.digits(model);
      case "offer":
        return this.offered(model);
      case "running":
        return this.running(model);
      case "done":
        return this.done(model);
      case "ended":
        return this.ended(model);
    }
  }

  private title(text: string): HTMLElement {
    return h("h1", { tabindex: "-1" }, text);
  }

  private button(text: string, click: () => void, kind = "primary"): HTMLButtonElement {
    return h("button", { type: "button", class: kind, click }, text);
  }

  private commandLine(): HTMLElement {
    return h("pre", {}, h("code", {}, "handover receive"));
  }

  private bytes(count: number): string {
    return size(count, this.t.locale);
  }

  private welcome(model: Model): Child[] {
    const t = this.t.welcome;
    const label = h("input", {
      id: "label",
      type: "text",
      autocomplete: "name",
      maxlength: "60",
      required: true,
      value: model.label,
      "aria-describedby": "label-hint",
      autofocus: !model.label,
    });
    const passphrase = h("input", {
      id: "passphrase",
      type: "password",
      autocomplete: "off",
      required: true,
      "aria-describedby": "passphrase-hint",
      autofocus: Boolean(model.label),
    });
    const { earlier } = model;
    const part = earlier && this.t.of(this.bytes(earlier.durable), this.bytes(earlier.total));
    const submit = (event: globalThis.Event) => {
      event.preventDefault();
      this.actions.command({
        command: "start",
        label: label.value.trim(),
        passphrase: model.passphrase ? passphrase.value : null,
        folders: this.actions.canChooseFolder,
      });
    };
    return [
      this.title(earlier ? t.earlierTitle : t.title),
      h("p", {}, part ? t.earlier(part) : t.text),
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
      h("p", { class: "small" }, `${t.trust} `, h("code", {}, "handover receive"), "."),
    ];
  }

  private peer(model: Model): Child {
    const { peer } = model;
    if (!peer) return null;
    const t = this.t.peer;
    const trust = peer.verified ? t.checked : peer.known ? t.known : t.fresh;
    return h(
      "div",
      { class: "peer" },
      h(
        "dl",
        {},
        h("dt", {}, t.from),
        h("dd", { class: "who", dir: "auto" }, peer.label || t.nameless),
        h("dt", {}, t.key),
        h("dd", {}, h("code", {}, peer.fingerprint)),
        h("dt", { class: "unseen" }, this.t.steps[1]),
        h("dd", { class: peer.known ? "trust known" : "trust" }, peer.changed ? "" : trust),
      ),
      peer.changed && h("p", { class: "warning", role: "alert" }, t.changed),
      h("p", { class: "digits-name" }, t.digits),
      h("p", { class: "digits", id: "digits" }, peer.digits),
      h("p", { class: "hint" }, t.compare),
    );
  }

  private working(model: Model): Child[] {
    const { t } = this;
    const now =
      model.state === "waiting" ? t.waiting : model.state === "reading" ? t.reading : t.connecting;
    return [
      this.title(now.title),
      h("p", { class: "busy" }, now.text),
      model.state === "waiting" && this.peer(model),
      model.slow && model.state !== "waiting" && this.causes(),
      this.button(t.running.stop, () => this.actions.command({ command: "stop" }), "quiet"),
    ];
  }

  private causes(): HTMLElement {
    const t = this.t.connecting;
    const causes = t.causes.map((cause) => h("li", {}, cause));
    return h("div", { class: "note", role: "status" }, h("p", {}, t.slow), h("ul", {}, ...causes));
  }

  private answer(answer: Answer): () => void {
    return () => {
      for (const button of this.main.querySelectorAll("button")) button.disabled = true;
      this.actions.command({ command: "answer", answer });
    };
  }

  private async intoFolder(): Promise<void> {
    const folder = await this.actions.chooseFolder();
    if (folder) this.answer(folder)();
  }

  private digits(model: Model): Child[] {
    const t = this.t.digits;
    return [
      this.title(t.title),
      h("p", {}, t.text),
      this.peer(model),
      h(
        "div",
        { class: "choices" },
        this.button(t.yes, this.answer(true)),
        this.button(t.no, this.answer(false), "quiet"),
      ),
    ];
  }

  private what(offer: Offer): string {
    const files = this.t.files(offer.files);
    const counted = offer.folders ? this.t.inFolders(files, this.t.folders(offer.folders)) : files;
    return `${counted}, ${this.bytes(offer.size)}`;
  }

  private offered(model: Model): Child[] {
    const t = this.t.offer;
    const offer = model.offer!;
    const saving = offer.single ? t.saveSingle(offer.name) : t.saveArchive(offer.name);
    const tight = offer.tight ? t.tight : t.fits;
    const room = { disk: tight, memory: t.memory, none: t.none }[offer.where];
    const noted = offer.where !== "disk" || offer.tight;
    const folder = this.actions.canChooseFolder;
    const none = offer.where === "none";
    return [
      this.title(t.title(this.what(offer))),
      this.peer(model),
      this.list(offer),
      !none && h("p", {}, saving, " ", noted ? "" : room),
      noted && h("p", { class: "note" }, room),
      folder && h("p", { class: "small" }, t.folderHint),
      h(
        "div",
        { class: "choices" },
        !none && this.button(t.accept, this.answer(true)),
        folder && this.button(t.folder, () => void this.intoFolder(), none ? "primary" : "quiet"),
        this.button(t.decline, this.answer(false), "quiet"),
      ),
    ];
  }

  /** The first entries as a tree; folders open at the top only. */
  private list(offer: Offer): HTMLElement {
    const root = h("ul", { class: "tree" });
    const folders = new Map<string, HTMLElement>([["", root]]);
    const folder = (path: string): HTMLElement => {
      const known = folders.get(path);
      if (known) return known;
      const at = path.lastIndexOf("/");
      const inside = h("ul", {});
      const summary = h("summary", { dir: "auto" }, path.slice(at + 1));
      const details = h("details", { open: at < 0 }, summary, inside);
      folder(path.slice(0, Math.max(at, 0))).append(h("li", {}, details));
      folders.set(path, inside);
      return inside;
    };
    for (const [path, bytes, directory] of offer.entries) {
      if (directory) folder(path);
      else {
        const at = path.lastIndexOf("/");
        folder(path.slice(0, Math.max(at, 0))).append(
          h(
            "li",
            { class: "file" },
            h("span", { dir: "auto" }, path.slice(at + 1)),
            h("span", { class: "size" }, this.bytes(bytes)),
          ),
        );
      }
    }
    const rest = offer.files + offer.folders - offer.entries.length;
    if (rest > 0) root.append(h("li", { class: "more" }, this.t.more(rest)));
    const few = offer.entries.length <= 12;
    return h("details", { class: "list", open: few }, h("summary", {}, this.t.offer.list), root);
  }

  private running(model: Model): Child[] {
    const { t } = this;
    const bar = h("progress", { "aria-label": t.running.title, max: "1" });
    const percent = h("p", { class: "percent", "aria-hidden": "true" });
    const numbers = h("p", { class: "numbers" });
    const path = h("p", { class: "small" });
    const phases = (["receiving", "verifying", "signing"] as const).map((phase) =>
      h("li", {}, t.phases[phase]),
    );
    const note = h("p", { class: "note", role: "alert", hidden: true });
    this.update = ({ progress, state, trouble }) => {
      if (progress) {
        const { durable, verified, total, rate, relayed, bottleneck } = progress;
        const done = total ? durable / total : 1;
        if (state === "verifying") bar.value = total ? verified / total : 1;
        else bar.value = done;
        percent.textContent = `${this.percent(progress)} %`;
        const parts = [t.of(this.bytes(durable), this.bytes(total))];
        if (rate > 0 && durable < total && state === "receiving" && !trouble) {
          parts.push(t.rate(this.bytes(rate)), t.left((total - durable) / rate));
        }
        numbers.textContent = parts.join(" · ");
        const way = relayed === null ? "" : relayed ? t.running.relayed : t.running.direct;
        const pace = state === "receiving" && bottleneck ? t.running.bottleneck[bottleneck] : "";
        path.textContent = [t.running.stay, way, pace].filter(Boolean).join(" ");
      }
      const at = ["receiving", "verifying", "signing"].indexOf(state);
      phases.forEach((item, index) => {
        item.className = at < 0 || index > at ? "" : index < at ? "past" : "now";
      });
      const words = trouble ? t.running[trouble] : "";
      note.hidden = !words;
      if (note.textContent !== words) note.textContent = words;
    };
    const stop = model.stopping
      ? [
          h("p", { role: "alert" }, t.running.stopSure),
          h(
            "div",
            { class: "choices" },
            this.button(t.running.stopNo, () => this.stopping(false)),
            this.button(
              t.running.stopYes,
              () => this.actions.command({ command: "stop" }),
              "quiet",
            ),
          ),
        ]
      : [this.button(t.running.stop, () => this.stopping(true), "quiet")];
    return [
      this.title(t.running.title),
      percent,
      bar,
      numbers,
      note,
      model.slow && this.causes(),
      h("ol", { class: "phases" }, ...phases),
      path,
      ...stop,
    ];
  }

  /** Called by the page, which owns the model. */
  stopping: (asked: boolean) => void = () => {};

  private done(model: Model): Child[] {
    const { t } = this;
    const delivered = model.delivered!;
    const [failed, arrived] = [delivered.failures, delivered.files];
    const rows = delivered.failed
      .slice(0, 50)
      .map(([path, status]) =>
        h("li", {}, h("b", { dir: "auto" }, path), `: ${t.done.status[status] ?? ""}`),
      );
    const inFolder = delivered.where === "folder";
    const whole = inFolder ? t.done.textFolder(delivered.name) : t.done.text;
    const text = failed ? (arrived ? t.done.incomplete : t.done.nothing) : whole;
    const toSave = model.saved !== "removed" && arrived > 0 && !inFolder;
    const receipt = this.button(
      t.done.receipt,
      () => this.actions.command({ command: "receipt" }),
      "quiet",
    );
    const after = [
      h("h2", {}, t.done.savedTitle),
      h("p", {}, t.done.saved),
      this.button(t.done.remove, () => this.actions.command({ command: "discard" }), "quiet"),
    ];
    const save = this.button(t.done.save(delivered.name, this.bytes(delivered.size)), () =>
      this.actions.command({ command: "save" }),
    );
    return [
      this.title(
        failed
          ? t.done.incompleteTitle(t.files(failed))
          : t.done.title(model.offer ? this.what(model.offer) : t.files(arrived)),
      ),
      h("p", { class: failed ? "note" : "good" }, text),
      failed > 0 && h("ul", { class: "failed" }, ...rows),
      !delivered.confirmed && h("p", { class: "note" }, t.done.unconfirmed),
      model.saved === "removed" && h("p", { role: "status" }, t.done.removed),
      toSave ? h("div", { class: "choices" }, save, receipt) : receipt,
      toSave &&
        model.saved === "no" &&
        h("p", { class: "small" }, model.offer?.where === "memory" ? t.offer.memory : t.done.keeps),
      ...(model.saved === "offered" ? after : []),
      delivered.confirmed && h("p", { class: "small proves" }, t.done.proves),
      model.receipt && this.receipt(model.receipt),
    ];
  }

  private receipt(facts: ReceiptFacts): HTMLElement {
    const t = this.t.receipt;
    const key = (label: string, print: string) => [
      h("b", { dir: "auto" }, label),
      h("br"),
      h("code", {}, print),
    ];
    const count = this.t.of(
      facts.deliveredEntries.toLocaleString(this.t.locale),
      facts.entries.toLocaleString(this.t.locale),
    );
    const rows: [string, Child[]][] = [
      [t.transfer, [h("code", {}, facts.transferId)]],
      [t.sender, key(facts.sender, facts.senderKey)],
      [t.recipient, key(facts.recipient, facts.recipientKey)],
      [t.delivered, [`${count}, ${this.bytes(facts.deliveredBytes)}`]],
      [t.root, [h("code", {}, facts.root)]],
      [t.digits, [facts.digitsConfirmed ? t.compared : t.notCompared]],
      [t.offered, [facts.offered]],
      [t.verified, [facts.verified]],
      [t.signed, [facts.confirmed ? t.byBoth : t.byOne]],
    ];
    const list = rows.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, ...value)]);
    return h(
      "details",
      { class: "list" },
      h("summary", {}, t.show),
      h("dl", { class: "small" }, ...list),
    );
  }

  private ended(model: Model): Child[] {
    const { t } = this;
    const code = model.code as Code;
    const sentence = t.failures[code] ?? t.failures.internal!;
    const cut = sentence.search(/[.:;] /) + 1;
    const [head, rest] =
      cut > 0 ? [sentence.slice(0, cut - 1), sentence.slice(cut)] : [sentence, ""];
    const hopeless = ["declined", "link_invalid", "expired", "cancelled", "disarmed"].includes(
      code,
    );
    const byCommand = ["no_space", "not_writable", "internal", "disk_error"].includes(code);
    return [
      this.title(head.replace(/\.$/, "")),
      rest &&
        h(
          "p",
          {},
          rest.trim().replace(/^./, (letter) => letter.toUpperCase()),
        ),
      !hopeless && this.button(t.ended.again, () => this.actions.again()),
      byCommand && h("p", {}, t.ended.commandLine),
      byCommand && this.commandLine(),
    ];
  }
}
