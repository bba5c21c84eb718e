/** A folder that is dropped where the platform gives no handles: its portions, from the page to the worker. */
import { expect, test, vi } from "vitest";

vi.mock("../src/ui/view", () => ({
  View: class {
    show() {}
    setLanguage() {}
  },
}));

const posted: any[] = [];
const listeners: { [name: string]: (event: any) => void } = {};
let worker: any;

async function page() {
  vi.resetModules();
  posted.length = 0;
  const listen = (name: string, handler: any) => (listeners[name] = handler);
  const storage = { getItem: () => null, setItem() {}, removeItem() {} };
  Object.assign(globalThis, {
    window: { RTCPeerConnection: 1, WebAssembly: 1, Worker: 1, indexedDB: 1 },
    document: {
      addEventListener: listen,
      querySelector: () => null,
      body: {},
      visibilityState: "visible",
    },
    addEventListener: listen,
    isSecureContext: true,
    sessionStorage: storage,
    location: {
      href: "https://example.org/",
      origin: "https://example.org",
      hash: "",
      pathname: "/",
      reload() {},
    },
    history: { replaceState() {} },
    Worker: class {
      onmessage: any;
      constructor() {
        worker = this;
      }
      postMessage(data: any) {
        posted.push(data);
      }
    },
  });
  vi.stubGlobal("navigator", { languages: ["en"], storage: { persist: async () => true } });
  await import("../src/main");
  const tell = (data: any) => worker.onmessage({ data });
  tell({ event: "home", label: "", lasting: true, protected: true, contacts: [], unfinished: [] });
  return tell;
}

/** A folder of 48 files, read in three portions, each when `go` is called. */
function folder() {
  const gates: (() => void)[] = [];
  const file = (name: string) => ({
    isDirectory: false,
    fullPath: `/study/${name}`,
    file: (found: any) => gates.push(() => found(new File(["x"], name))),
  });
  const all = Array.from({ length: 48 }, (_, i) => file(`${i}`));
  let given = false;
  const root = {
    isDirectory: true,
    fullPath: "/study",
    createReader: () => ({
      readEntries: (found: any) => {
        found(given ? [] : all);
        given = true;
      },
    }),
  };
  const item = { kind: "file", webkitGetAsEntry: () => root, getAsFile: () => null };
  const go = async () => {
    gates.splice(0).forEach((one) => one());
    await new Promise((done) => setTimeout(done, 5));
  };
  return { data: { items: [item] }, go };
}
const selected = {
  event: "selected",
  files: 1,
  folders: 1,
  size: 1,
  names: ["study"],
  count: 1,
  busy: false,
  refused: [],
};
const filesOf = () =>
  posted
    .filter(({ command }) => command === "pick")
    .flatMap(({ picked }) => picked)
    .filter((one) => "file" in one);

test("all of a dropped folder is sent, though the link was made while it was read (`You need not wait`)", async () => {
  const tell = await page();
  const { data, go } = folder();
  listeners["drop"]!({ preventDefault() {}, dataTransfer: data });
  await go();
  await go();
  tell(selected);
  tell({
    event: "link",
    transferId: "x",
    link: "",
    expiresAt: 0,
    passphrase: false,
    contact: "",
    qr: "",
  });
  for (let i = 0; i < 5; i++) await go();
  expect(filesOf().length).toBe(48);
});

test("all portions of a drop are one choice, whatever is chosen meanwhile", async () => {
  const tell = await page();
  const { data, go } = folder();
  listeners["drop"]!({ preventDefault() {}, dataTransfer: data });
  await go();
  await go();
  tell(selected);
  listeners["drop"]!({
    preventDefault() {},
    dataTransfer: {
      items: [
        { kind: "file", webkitGetAsEntry: () => null, getAsFile: () => new File([], "note.txt") },
      ],
    },
  });
  for (let i = 0; i < 5; i++) await go();
  const choices = posted
    .filter(
      ({ command, picked }) =>
        command === "pick" && picked.some((one: any) => one.path?.startsWith("study")),
    )
    .map(({ choice }) => choice);
  expect(new Set(choices).size).toBe(1);
});
