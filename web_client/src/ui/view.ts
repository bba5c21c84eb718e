/**
 * The page: of many screens of one card, one is shown. It is made anew when the model asks for another,
 * and follows it in place otherwise. No other folder makes elements.
 */
import type { Answer } from "../events";
import { h, percentOf, type Actions, type Context, type Screen } from "./elements";
import { LANGUAGES, type Language, type Messages } from "./messages";
import type { Model } from "./model";
import { check } from "./screens/check";
import { chooseAgain, differences } from "./screens/again";
import { choose } from "./screens/choose";
import { digits, token, working } from "./screens/connecting";
import { done } from "./screens/done";
import { ended } from "./screens/ended";
import { history } from "./screens/history";
import { home } from "./screens/home";
import { admit, link } from "./screens/link";
import { offered } from "./screens/offer";
import { running } from "./screens/running";
import { sent } from "./screens/sent";
import { elsewhere, unsupported, welcome } from "./screens/start";

const ANNOUNCE_SECONDS = 5; // a live region that speaks more often is noise
const STEP_OF: { [role in Model["role"]]: { [screen in Model["screen"]]?: number } } = {
  recipient: { welcome: 0, working: 0, digits: 1, offer: 1, running: 2, done: 3 },
  sender: { choose: 0, working: 1, token: 1, link: 1, admit: 1, digits: 1, running: 2, sent: 3 },
};

const SCREENS: {
  [screen in Exclude<Model["screen"], "blank">]: (model: Model, context: Context) => Screen;
} = {
  home,
  unsupported,
  elsewhere,
  welcome,
  working,
  choose,
  token,
  link,
  admit,
  digits,
  offer: offered,
  running,
  done,
  sent,
  choose_again: chooseAgain,
  differences,
  ended,
  history,
  check,
};

/** Shows the model. */
export class View {
  private shownKey = "";
  private update: (model: Model) => void = () => {};
  private announcedAt = 0;
  private announced = "";
  private readonly main = h("main", { tabindex: "-1" });
  private readonly operator = h("footer", { class: "small operator" });
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
    this.keepTyped();
    document.body.replaceChildren();
    this.frame();
    this.shownKey = "";
  }

  /** Keep what was typed, for the screen to be made anew. */
  private keepTyped(): void {
    for (const field of fieldsOf(this.main)) {
      this.typed.set(field.id, isBox(field) ? String(Number(field.checked)) : field.value);
    }
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
      this.operator,
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
      model.findings.length,
      model.checked,
      model.unfinished.length,
      model.gone,
      model.history.length,
      model.warned,
      model.selected?.refused.length,
      screen === "choose" && JSON.stringify(model.policy),
      screen === "choose" && model.selected?.names.map(({ number }) => number).join("/"),
      screen === "choose_again" && `${model.selected?.files} ${model.selected?.size}`,
      (screen === "link" || screen === "admit") && model.peer?.digits,
      screen === "link" && state,
      model.question,
      model.folderRefused,
      model.persisted,
    ].join();
    if (key !== this.shownKey) {
      const first = this.shownKey === "";
      const moved = key.split(",")[0] !== this.shownKey.split(",")[0];
      this.shownKey = key;
      const active = document.activeElement;
      const held = this.main.contains(active) ? active : null;
      if (!moved) this.keepTyped();
      const unfolded =
        (first || !moved) && this.main.querySelector("details.options[open]") !== null;
      const { children, update } = this.screen(model);
      this.update = update ?? (() => {});
      this.main.replaceChildren(h("section", { class: `card ${screen}` }, ...children));
      this.retype();
      if (unfolded) this.main.querySelector("details.options")?.setAttribute("open", "");
      this.showSteps(model);
      const title = this.main.querySelector("h1");
      const field = this.main.querySelector<HTMLElement>("[autofocus]");
      if (field) field.focus();
      else if (!first && moved) title?.focus();
      else if (held) (this.alike(held) ?? title)?.focus(); // the same screen, made anew
    }
    this.update(model);
    this.showOperator(model);
    this.showTitle(model);
    this.announce(model);
  }

  /** What was typed before the screen was made anew. */
  private retype(): void {
    for (const field of fieldsOf(this.main)) {
      const typed = this.typed.get(field.id);
      if (typed === undefined) continue;
      if (isBox(field)) field.checked = typed === "1";
      else field.value = typed;
    }
    this.typed.clear();
  }

  private alike(element: Element): HTMLElement | undefined {
    const candidates = this.main.querySelectorAll<HTMLElement>(element.localName);
    return [...candidates].find((one) => one.textContent === element.textContent);
  }

  private showSteps(model: Model): void {
    const step = STEP_OF[model.role][model.screen] ?? -1;
    this.steps.hidden = step < 0;
    const names = model.role === "sender" ? this.t.stepsSender : this.t.steps;
    const items = names.map((name, index) =>
      h(
        "li",
        index === step ? { "aria-current": "step" } : index < step ? { class: "past" } : {},
        name,
      ),
    );
    this.steps.replaceChildren(...items);
  }

  private showOperator({ policy }: Model): void {
    const { t } = this;
    const named = policy?.operator ? t.policy.operator(t.quoted(policy.operator)) : "";
    this.operator.textContent = named;
    this.operator.hidden = !named;
  }

  private showTitle(model: Model): void {
    const { progress } = model;
    const running = model.screen === "running" && progress;
    const percent = running ? `${percentOf(progress)} % – ` : "";
    document.title = `${percent}${this.t.name}`;
  }

  /** For who does not see the page: what changed, at a human pace. */
  private announce(model: Model): void {
    const { screen, state, trouble, progress } = model;
    if (screen !== "running") {
      [this.announced, this.status.textContent] = ["", ""];
      return;
    }
    const rough = progress && state === "accepted" ? Math.floor(percentOf(progress) / 10) : "";
    const now = performance.now() / 1000;
    const said = `${trouble || state} ${rough}`;
    const changed = said.split(" ")[0] !== this.announced.split(" ")[0];
    const due = changed || now - this.announcedAt >= ANNOUNCE_SECONDS;
    if (said === this.announced || !due) return;
    [this.announced, this.announcedAt] = [said, now];
    const percent = rough === "" ? "" : `, ${this.t.percent(10 * rough)}`;
    const { running, runningSender, states, statesSender } = this.t;
    const sends = model.role === "sender";
    const words = trouble
      ? (sends ? runningSender : running)[trouble]
      : ((sends ? statesSender : states)[state] ?? "");
    this.status.textContent = `${words}${percent}`;
  }

  private screen(model: Model): Screen {
    if (model.screen === "blank") return { children: [] };
    const { t, actions } = this;
    const answer = (given: Answer) => () => {
      const buttons = this.main.querySelectorAll<HTMLButtonElement>(".choices > *, form button");
      for (const button of buttons) button.disabled = true;
      actions.command({ command: "answer", question: model.question, answer: given });
    };
    return SCREENS[model.screen](model, { t, actions, answer });
  }
}

type Field = HTMLInputElement | HTMLSelectElement;

const fieldsOf = (element: HTMLElement): Field[] =>
  [...element.querySelectorAll<Field>("input:not([type=file]), select")].filter(({ id }) => id);

const isBox = (field: Field): field is HTMLInputElement => field.type === "checkbox";
