/** What the page knows, and what each event makes of it. */
import type {
  CheckPath,
  Delivered,
  Event,
  Finding,
  HistoryEntry,
  LinkMade,
  Offer,
  PeerMet,
  PolicyTold,
  Progress,
  ReceiptSummary,
  Selected,
  Sent,
  StateName,
  Unfinished,
  Warned,
} from "../events";
import type { Code, Values } from "../protocol/errors";

type EventOf<Name extends Event["event"]> = Extract<Event, { event: Name }>;

/** What the page knows; replaced, never changed. */
export interface Model {
  readonly screen:
    | "blank"
    | "home"
    | "unsupported"
    | "elsewhere"
    | "welcome"
    | "working" // connecting, waiting, reading
    | "choose" // what is sent, and how
    | "link" // it stands; nobody has accepted yet
    | "token" // the server wants one
    | "admit"
    | "digits"
    | "offer"
    | "running"
    | "done"
    | "sent"
    | "choose_again"
    | "differences"
    | "ended"
    | "history"
    | "check";
  readonly role: "recipient" | "sender";
  readonly state: StateName;
  readonly trouble: "" | "silent" | "lost" | "paused" | "sender_paused";
  readonly passphrase: boolean;
  readonly label: string;
  readonly lasting: boolean; // it outlives the page, ...
  readonly persisted: boolean; // ... and the browser will delete nothing of it by itself
  readonly earlier: { readonly durable: number; readonly total: number } | null;
  readonly slow: boolean;
  readonly policy: PolicyTold | null; // of the server
  readonly peer: PeerMet | null;
  readonly folderRefused: boolean; // the browser refused the folder that was chosen
  readonly erased: boolean; // what had arrived by this link is not here any more, ...
  readonly receiptKept: boolean; // ... but its receipt is
  readonly offer: Offer | null;
  readonly progress: Progress | null;
  readonly stopping: boolean;
  readonly code: Code | "";
  readonly detail: string; // of a failure, safe to show, ...
  readonly values: Values; // ... and what fills it in
  readonly delivered: Delivered | null;
  readonly receipt: ReceiptSummary | null;
  readonly saved:
    | "no"
    | "saving"
    | "unsaved" // it failed
    | "offered" // as a download, of whose end the page does not hear
    | "saved" // for certain, and erased here
    | "removed";
  readonly saving: number; // what part of it is saved
  readonly savedAs: string;
  readonly findings: readonly Finding[]; // of a check of this computer
  readonly checked: CheckPath | null; // once it is over
  // --- of a sender
  readonly protected: boolean; // the platform keeps the key
  readonly contacts: EventOf<"home">["contacts"];
  readonly unfinished: readonly Unfinished[];
  readonly gone: boolean; // the link that this tab had is not good any more
  readonly selected: Selected | null;
  readonly link: LinkMade | null;
  readonly warnings: readonly Warned[]; // the last ones, ...
  readonly warned: number; // ... of so many
  readonly sent: Sent | null;
  readonly question: number; // the last one
  readonly signIn: string; // where the server gives tokens, or ""
  readonly tokenRefused: boolean; // the server did not know the last one
  readonly again: EventOf<"choose_again"> | null;
  readonly differences: EventOf<"differences"> | null;
  readonly history: readonly HistoryEntry[];
}

const MOST_WARNINGS = 20; // that are kept

export const START: Model = {
  screen: "blank",
  role: "recipient",
  state: "opened",
  trouble: "",
  passphrase: false,
  label: "",
  lasting: true,
  persisted: false,
  earlier: null,
  slow: false,
  policy: null,
  peer: null,
  folderRefused: false,
  erased: false,
  receiptKept: false,
  offer: null,
  progress: null,
  stopping: false,
  code: "",
  detail: "",
  values: {},
  delivered: null,
  receipt: null,
  saved: "no",
  saving: 0,
  savedAs: "",
  findings: [],
  checked: null,
  protected: true,
  contacts: [],
  unfinished: [],
  gone: false,
  selected: null,
  link: null,
  warnings: [],
  warned: 0,
  sent: null,
  question: 0,
  signIn: "",
  tokenRefused: false,
  again: null,
  differences: null,
  history: [],
};

/** Whether there is something in this browser that nobody has saved yet. */
export const unsaved = ({ screen, delivered, saved }: Model): boolean =>
  screen === "done" &&
  delivered!.where === "browser" &&
  delivered!.entries > 0 &&
  ["no", "saving", "unsaved"].includes(saved);

/** What an event makes of the model. */
export function reduce(model: Model, event: Event): Model {
  switch (event.event) {
    case "ready": {
      const { passphrase, label, lasting, delivered, erased } = event;
      const receiptKept = event.receipt;
      const earlier = event.earlier?.durable ? event.earlier : null;
      const screen = delivered ? "done" : "welcome";
      return {
        ...model,
        screen,
        passphrase,
        label,
        lasting,
        earlier,
        delivered,
        erased,
        receiptKept,
      };
    }
    case "persisted":
      return { ...model, persisted: event.granted };
    case "gone":
      return { ...model, screen: "home", gone: true };
    case "elsewhere":
      return { ...model, screen: "elsewhere" };
    case "state":
      return inState(model, event.state);
    case "silence":
      return { ...model, trouble: event.silent ? "silent" : "" };
    case "slow":
      return { ...model, slow: true };
    case "policy":
      return { ...model, policy: event };
    case "peer":
      return { ...model, peer: event };
    case "question": {
      const screen = event.kind === "accept" ? "offer" : event.kind;
      const tokenRefused = screen === "token" && model.screen === "token";
      const signIn = event.signIn ?? "";
      return { ...model, screen, signIn, tokenRefused, question: event.number };
    }
    case "offer":
      return { ...model, offer: event };
    case "progress":
      return { ...model, progress: event };
    case "ended": {
      const { code, detail, values = {}, delivered } = event;
      const screen = delivered ? "done" : "ended";
      return { ...model, screen, code, detail, values, delivered, stopping: false };
    }
    case "home": {
      const { label, lasting, contacts, unfinished } = event;
      const known = { label, lasting, contacts, unfinished, protected: event.protected };
      const screen = model.screen === "blank" ? "home" : model.screen;
      return { ...model, ...known, screen, role: "sender" };
    }
    case "selected": {
      const choosing = model.screen === "home" && event.count > 0;
      return { ...model, selected: event, screen: choosing ? "choose" : model.screen };
    }
    case "link":
      return { ...model, link: event, screen: model.screen === "running" ? "running" : "link" };
    case "warning": {
      const warnings = [...model.warnings, event].slice(-MOST_WARNINGS);
      return { ...model, warnings, warned: model.warned + 1 };
    }
    case "sent":
      return { ...model, screen: "sent", sent: event, stopping: false };
    case "choose_again":
      return { ...model, screen: "choose_again", again: event };
    case "differences":
      return { ...model, screen: "differences", differences: event };
    case "history":
      return { ...model, screen: "history", history: event.entries };
    case "receipted":
      return { ...model, receipt: event.receipt };
    case "saving":
      return { ...model, saved: "saving", saving: event.total ? event.done / event.total : 1 };
    case "saved":
      return { ...model, saved: "saved", savedAs: event.name };
    case "unsaved":
      return { ...model, saved: "unsaved" };
    case "file":
      return { ...model, saved: "offered" };
    case "discarded":
      return { ...model, saved: "removed" };
    default:
      return model;
  }
}

/** What a state makes of the model. */
function inState(model: Model, state: StateName): Model {
  const running = ["accepted", "verifying", "signing"].includes(state);
  if (running) return { ...model, screen: "running", state, trouble: "", slow: false };
  const trouble = TROUBLES.find((one) => one === state);
  if (trouble && model.role === "recipient") return { ...model, trouble };
  // It waits for the recipient to come back, or did before a reload.
  if (trouble) return { ...model, trouble, screen: "running" };
  if (model.screen === "running") return model; // it connects anew, behind the progress
  if (model.role === "sender") {
    const peer = state === "waiting" ? null : model.peer; // the next one may be another
    return { ...model, screen: model.link ? "link" : "working", state, peer };
  }
  return { ...model, screen: "working", state, slow: model.slow && state === "opened" };
}

const TROUBLES = ["lost", "paused", "sender_paused"] as const;
