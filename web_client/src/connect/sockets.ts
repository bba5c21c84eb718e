/**
 * Sockets to the server that the page has for its worker: Firefox may crash when a worker ends that has one
 * open, as on a reload.
 */
import type { SocketCall, SocketEvent } from "../events";
import type { OpenSocket, ServerSocket } from "./rendezvous";

/** The worker's ends. */
export class WorkerSockets {
  private readonly known = new Map<number, ServerSocket>();
  private count = 0;

  /** `ask` brings a call to the page. */
  constructor(private readonly ask: (call: SocketCall) => void) {}

  readonly openSocket: OpenSocket = (url, protocol) => {
    const socket = ++this.count;
    const end: ServerSocket = {
      onopen: null,
      onmessage: null,
      onclose: null,
      send: (text) => this.ask({ op: "send", socket, text }),
      close: () => {
        this.known.delete(socket);
        this.ask({ op: "close", socket });
      },
    };
    this.known.set(socket, end);
    this.ask({ op: "open", socket, url, protocol });
    return end;
  };

  /** What the page tells. */
  take(event: SocketEvent): void {
    const end = this.known.get(event.socket);
    if (event.type === "open") end?.onopen?.();
    else if (event.type === "message") end?.onmessage?.(event);
    else end?.onclose?.();
  }
}

/** The page's ends. */
export class PageSockets {
  private readonly open = new Map<number, WebSocket>();

  constructor(private readonly tell: (event: SocketEvent) => void) {}

  /** Carry out a call of the worker's. */
  call(call: SocketCall): void {
    const { socket } = call;
    if (call.op === "open") {
      const made = new WebSocket(call.url, call.protocol);
      this.open.set(socket, made);
      made.onopen = () => this.tell({ socket, type: "open" });
      made.onmessage = ({ data }) => this.tell({ socket, type: "message", data });
      made.onclose = () => this.tell({ socket, type: "close" });
      return;
    }
    const made = this.open.get(socket);
    if (call.op === "send") {
      if (made?.readyState === WebSocket.OPEN) made.send(call.text);
    } else {
      this.open.delete(socket);
      if (made) made.onopen = made.onmessage = made.onclose = null;
      made?.close();
    }
  }
}
