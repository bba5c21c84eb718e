/**
 * The page's thread: it has the link, the worker, the peer connections and the person; no byte of a
 * file and no key but the link itself ever comes here.
 */
import { opened, take as takeAddress } from "./ui/address"; // before anything that can fail

import { check } from "./connect/checking";
import { PageSockets } from "./connect/sockets";
import { Stay } from "./connect/stay";
import type { Command, Event, Finding, Picked } from "./events";
import { allowOwnScripts } from "./own_scripts";
import { openSockets } from "./lanes/https/page";
import { PagePeerConnections } from "./lanes/webrtc/page";
import { download, revokeDownloads } from "./ui/download";
import { preferred, type Language } from "./ui/messages";
import { START, reduce, unsaved, type Model } from "./ui/model";
import { choose, dropped } from "./ui/picking";
import { isOver } from "./ui/screens/ended";
import { View } from "./ui/view";

const LIKE_A_LINK = /(#|%(25)*23)\d+(\.|%(25)*2e)/i;
const LINK = "handover link"; // in this tab only; a reload goes on with it
const ACTIVE = "handover active"; // a transfer was accepted in this tab and is not over
const LANGUAGE = "handover language";
const SENDING = "handover sending"; // the transfer that this tab sends
const PORTION = 500; // files in one message to the worker
const ANSWER_SECONDS = 20; // for the browser's own question about storage, which is easy to miss

allowOwnScripts();

/** What this tab keeps, and while the page lasts where the browser refuses to keep anything. */
const kept = new Map<string, string>();

function keep(name: string, value: string | null): void {
  if (value === null) kept.delete(name);
  else kept.set(name, value);
  try {
    if (value === null) sessionStorage.removeItem(name);
    else sessionStorage.setItem(name, value);
  } catch {} // it throws where site data is blocked
}

function keptBefore(name: string): string | null {
  try {
    return kept.get(name) ?? sessionStorage.getItem(name);
  } catch {
    return null;
  }
}

/** What this tab goes on with: the address, if a link may be in it (the worker finds it), or the last. */
function linkOf(address: string): string | null {
  if (LIKE_A_LINK.test(address)) {
    keep(LINK, address);
    keep(ACTIVE, null);
  }
  return keptBefore(LINK);
}

/** What a transfer needs and this browser lacks. */
function missing(): string[] {
  const needed: [name: string, there: boolean][] = [
    ["https", isSecureContext],
    ["WebRTC", "RTCPeerConnection" in window],
    ["WebAssembly", "WebAssembly" in window],
    ["Web Workers", "Worker" in window],
    ["IndexedDB", "indexedDB" in window],
    // The last that came of what is used of the language, by the year.
    ["ECMAScript 2022", "hasOwn" in Object && "at" in Array.prototype],
    ["ECMAScript 2023", "toReversed" in Array.prototype],
    ["ECMAScript 2024", "isWellFormed" in String.prototype],
  ];
  return needed.filter(([, there]) => !there).map(([name]) => name);
}

const link = linkOf(opened);
let model: Model = START;
let worker: Worker | null = null;
let staying: Stay | null = null;
let choice = 0; // that a person made of what to send
const asked = new Map<Event["event"], (event: any) => void>(); // what a check waits for
let active = false;
let wakeLock: WakeLockSentinel | null = null;

const language = (keptBefore(LANGUAGE) as Language) ?? preferred(navigator.languages);
const canChooseFolder = "showDirectoryPicker" in window;
const view = new View(language, {
  command,
  canChooseFolder,
  chooseFolder: async () => {
    let folderRefused = false;
    try {
      return (await window.showDirectoryPicker!({ id: "handover", mode: "readwrite" })) ?? null;
    } catch (error) {
      folderRefused = (error as DOMException).name !== "AbortError"; // else they changed their mind
      return null;
    } finally {
      show({ ...model, folderRefused });
    }
  },
  save: async (name) => {
    let into: FileSystemFileHandle | null = null;
    try {
      into = (await window.showSaveFilePicker?.({ id: "handover", suggestedName: name })) ?? null;
    } catch (error) {
      if ((error as DOMException).name === "AbortError") return; // the person changed their mind
    }
    command({ command: "save", into });
  },
  again: () => location.reload(),
  check: () => void checkComputer(),
  open(text) {
    keep(LINK, text);
    keep(ACTIVE, null);
    location.reload();
  },
  choose: (kind) =>
    void choose(kind, (picked) => CHOOSING.includes(model.screen) && newChoice()(picked, true)),
  async allow(transferId, handles) {
    try {
      for (const handle of handles) await handle.requestPermission?.({ mode: "read" });
    } catch {} // it is asked again
    takeUp(transferId, false);
  },
  takeUp,
  history() {
    startWorker();
    command({ command: "history" });
  },
  home() {
    keep(SENDING, null);
    keep(LINK, null);
    location.reload();
  },
  async copy(text) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      return false;
    }
  },
  language(chosen) {
    keep(LANGUAGE, chosen);
    view.setLanguage(chosen);
    show(model);
  },
  stopping: (stopping) => show({ ...model, stopping }),
});

function show(next: Model): void {
  model = next;
  view.show(model);
}

function command(given: Command, transfer: Transferable[] = []): void {
  if (given.command === "answer" && given.answer && model.screen === "offer") setActive(true);
  worker?.postMessage(given, transfer);
}

/** While files are under way: the screen stays on, and leaving asks first. */
function setActive(now: boolean): void {
  active = now;
  keep(ACTIVE, now ? "1" : null);
  void keepAwake();
}

async function keepAwake(): Promise<void> {
  if (!active) {
    await wakeLock?.release();
    wakeLock = null;
  } else if (document.visibilityState === "visible") {
    wakeLock = (await navigator.wakeLock?.request("screen").catch(() => null)) ?? null;
  }
}

/** Somebody chose something to send; more of the same choice may come. */
type Pick = (picked: readonly Picked[], last: boolean) => void;

/** A new choice. It comes to the worker in portions: a folder may have tens of thousands of files. */
function newChoice(): Pick {
  const number = ++choice;
  return (picked, last) => {
    for (let at = 0; at < picked.length; at += PORTION) {
      const some = picked.slice(at, at + PORTION);
      command({ command: "pick", picked: some, choice: number, last: false });
    }
    if (last) command({ command: "pick", picked: [], choice: number, last });
  };
}

function takeUp(transferId: string, granted: boolean): void {
  keep(SENDING, transferId);
  command({ command: "take_up", transferId, granted });
}

const sockets = new PageSockets((event) => command({ command: "socket", event }));
const peerConnections = new PagePeerConnections((event, transfer = []) => {
  command({ command: "rtc", event }, transfer);
});

async function take(event: Event): Promise<void> {
  if (event.event === "rtc") return peerConnections.call(event.call);
  if (event.event === "https") {
    return openSockets(event.call, (told, ports) =>
      command({ command: "https", event: told }, ports),
    );
  }
  if (event.event === "socket") return sockets.call(event.call);
  if (asked.has(event.event)) return asked.get(event.event)!(event);
  if (event.event === "stay") {
    staying = new Stay(event.at, () => command({ command: "stayed" }));
    return;
  }
  if (event.event === "leave") return staying?.close();
  if (event.event === "persist") {
    const unanswered = new Promise<boolean>((resolve) => {
      setTimeout(() => resolve(false), ANSWER_SECONDS * 1000);
    });
    const asked = navigator.storage.persist().catch(() => false); // some browsers ask the person
    const granted = await Promise.race([asked, unanswered]);
    return command({ command: "persisted", granted });
  }
  if (event.event === "receipt") {
    download(event.name, new Blob([event.document as BlobPart], { type: "application/json" }));
    return;
  }
  if (event.event === "audit") {
    const type = "application/octet-stream"; // else some browsers change its name
    download("audit.jsonl", new Blob([event.document as BlobPart], { type }));
    return;
  }
  if (event.event === "state" && event.state === "accepted" && !active) setActive(true);
  if (event.event === "link") {
    keep(SENDING, event.transferId);
    setActive(true); // the link is good as long as the page is open
  }
  if (event.event === "ended" || event.event === "sent") setActive(false);
  if (event.event === "ended" && !event.delivered && isOver(event.code, event.detail)) {
    keep(LINK, null); // the next page here is the start
  }
  if (["ended", "sent", "gone", "elsewhere"].includes(event.event)) keep(SENDING, null);
  if (event.event === "file") {
    revokeDownloads();
    download(event.name, event.file);
    keep(LINK, null);
  }
  if (event.event === "discarded" || event.event === "saved") {
    revokeDownloads();
    keep(LINK, null);
  }
  show(reduce(model, event));
  if (event.event === "ready") goOn(event);
}

/** Try what a transfer would need, before it matters; the answers of the worker come as events. */
async function checkComputer(): Promise<void> {
  const answer = <E extends Event["event"]>(name: E) =>
    new Promise<Extract<Event, { event: E }>>((resolve) => asked.set(name, resolve));
  const [met, room] = [answer("met"), answer("room_for")];
  const { origin } = location;
  show({ ...model, screen: "check", findings: [], checked: null });
  startWorker().postMessage({ command: "check", origin } satisfies Command);
  const tell = (finding: Finding) => show({ ...model, findings: [...model.findings, finding] });
  const checked = await check(
    origin,
    met,
    room.then(({ free }) => free),
    tell,
  ).catch(() => "none" as const);
  show({ ...model, checked });
}

function startWorker(): Worker {
  if (worker) return worker;
  worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module" });
  worker.onmessage = ({ data }: MessageEvent<Event>) => void take(data);
  worker.onerror = () => {
    show(
      reduce(model, {
        event: "ended",
        ending: "failed",
        code: "internal",
        detail: "",
        delivered: null,
      }),
    );
  };
  return worker;
}

/** After a reload in the middle of a transfer nobody has to click again. */
function goOn(event: Extract<Event, { event: "ready" }>): void {
  const inTheMiddle = keptBefore(ACTIVE) && event.earlier && !event.delivered;
  if (inTheMiddle && !event.passphrase && event.label) {
    command({ command: "start", label: event.label, passphrase: null, folders: canChooseFolder });
  }
}

const CHOOSING: readonly Model["screen"][] = ["home", "choose", "choose_again"];

document.addEventListener("dragover", (event) => {
  if (CHOOSING.includes(model.screen)) event.preventDefault();
});
document.addEventListener("drop", (event) => {
  event.preventDefault(); // a browser would open the file in the place of this page
  if (!event.dataTransfer || !CHOOSING.includes(model.screen)) return;
  void dropped(event.dataTransfer, newChoice());
});

/** In another network, the server may be gone without a word. */
addEventListener("online", () => command({ command: "renew" }));

addEventListener("hashchange", () => {
  if (active)
    history.replaceState(null, "", "/"); // one transfer at a time in a tab
  else if (linkOf(takeAddress())) location.reload();
});
addEventListener("beforeunload", (event) => {
  if (active || unsaved(model)) event.preventDefault();
});
document.addEventListener("visibilitychange", () => void keepAwake());

if (missing().length) show({ ...model, screen: "unsupported", detail: missing().join(", ") });
else {
  startWorker();
  const sending = keptBefore(SENDING);
  if (link !== null) command({ command: "open", link });
  else {
    command({ command: "home" });
    if (sending) takeUp(sending, false); // this tab was loaded anew
  }
}
