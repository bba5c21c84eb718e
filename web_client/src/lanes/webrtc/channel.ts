/** A lane over one WebRTC data channel. */
import type { Pipe } from "../../events";
import type { Bytes } from "../../protocol/codec";
import type { Lane } from "../lane";

export const [CONTROL_CHANNEL, DATA_CHANNEL] = [0, 1]; // pre-negotiated stream ids

const MOST_HELD = 64; // messages before a handler is there: the handshake's, or a lane's first

export const PASSED_ON = { open: "open", closed: "closed" } as const; // over a port, beside the messages

/** The worker's end of a data channel, or of the port that stands in for one. */
export class ChannelLane implements Lane {
  private handler: ((message: Bytes) => void) | null = null;
  private readonly held: Bytes[] = []; // what came before anybody asked
  onLost: () => void = () => {};
  readonly opened: Promise<void>;

  constructor(private readonly pipe: Pipe) {
    this.opened = new Promise((resolve) => {
      if ("readyState" in pipe) {
        pipe.binaryType = "arraybuffer";
        pipe.onmessage = ({ data }) => this.take(data);
        pipe.onclose = () => this.onLost();
        pipe.onopen = () => resolve();
        if (pipe.readyState === "open") resolve();
      } else {
        pipe.onmessage = ({ data }) => {
          if (data === PASSED_ON.open) resolve();
          else if (data === PASSED_ON.closed) this.onLost();
          else this.take(data);
        };
      }
    });
  }

  set onMessage(handler: (message: Bytes) => void) {
    this.handler = handler;
    this.held.splice(0).forEach(handler);
  }

  private take(data: unknown): void {
    if (!(data instanceof ArrayBuffer)) return this.onLost(); // nothing of ours is text
    const message = new Uint8Array(data);
    if (this.handler) this.handler(message);
    else if (this.held.push(message) > MOST_HELD) this.onLost();
  }

  send(message: Bytes): void {
    try {
      if ("send" in this.pipe) this.pipe.send(message as Uint8Array<ArrayBuffer>);
      else this.pipe.postMessage(message);
    } catch {
      this.onLost();
    }
  }

  close(): void {
    this.onMessage = () => {};
    this.onLost = () => {};
    this.pipe.close();
  }
}
