/** What the page knows, and what each event makes of it. */
import type {
  CheckPath,
  Delivered,
  Event,
  Finding,
  Offer,
  PeerMet,
  Progress,
  ReceiptSummary,
  StateName,
} from "../events";
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
    | "ended"
    | "check";
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
  readonly detail: string; // of a failure, safe to show
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
  detail: "",
  delivered: null,
  receipt: null,
  saved: "no",
  saving: 0,
  savedAs: "",
  findings: [],
  checked: null,
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
      const { code, detail, delivered } = event;
      const screen = delivered ? "done" : "ended";
      return { ...model, screen, code, detail, delivered, stopping: false };
    }
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
