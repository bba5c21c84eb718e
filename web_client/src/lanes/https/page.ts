/** The page's part of connections by HTTPS: their WebSockets, for Firefox may crash when a worker has them. */
import type { HttpsCall, HttpsEvent } from "../../events";
import { passOn } from "../channel";

export class PageHttpsConnections {
  private readonly open = new Map<number, WebSocket[]>();

  constructor(private readonly tell: (event: HttpsEvent, transfer: Transferable[]) => void) {}

  /** Carry out a call of the worker's. */
  call(call: HttpsCall): void {
    const { connection } = call;
    if (call.op === "open") {
      const here = location.origin.replace(/^http/, "ws"); // older browsers take no path alone
      const sockets = [call.control, call.data].map((path) => new WebSocket(here + path));
      this.open.set(connection, sockets);
      const [control, data] = sockets.map((socket) => passOn(socket)) as [MessagePort, MessagePort];
      this.tell({ connection, control, data }, [control, data]);
    } else {
      this.open.get(connection)?.forEach((socket) => socket.close());
      this.open.delete(connection);
    }
  }
}
