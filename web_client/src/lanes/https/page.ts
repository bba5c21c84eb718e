/** The page's part of connections by HTTPS: their WebSockets, for Firefox may crash when a worker has them. */
import type { HttpsCall, HttpsEvent } from "../../events";
import { passOn } from "../channel";

/** Open both sockets of a connection, and tell the worker the ports that stand in for them. */
export function openSockets(
  call: HttpsCall,
  tell: (event: HttpsEvent, transfer: Transferable[]) => void,
): void {
  const here = location.origin.replace(/^http/, "ws"); // older browsers take no path alone
  const open = (path: string) => passOn(new WebSocket(here + path));
  const [control, data] = [open(call.control), open(call.data)];
  tell({ connection: call.connection, control, data }, [control, data]);
}
