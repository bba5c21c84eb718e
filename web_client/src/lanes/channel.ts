/** A lane over one WebRTC data channel, or one WebSocket; and the port that stands in for either. */
import type { Pipe } from "../events";
import type { Bytes } from "../protocol/codec";
import type { Lane } from "./lane";

export const [CONTROL_CHANNEL, DATA_CHANNEL] = [0, 1]; // pre-negotiated stream ids

const MOST_HELD = 64; // messages before a handler is there: the handshake's, or a lane's first

// Bytes that may be queued: enough to keep the association busy, and not so many that a ping waits long.
export const [LOW_WATER, HIGH_WATER] = [512 * 1024, 2 * 1024 * 1024];

const CARRIER = 256 * 1024; // bytes: no message is longer

/** Over a port, beside the messages: what has happened to the channel, and what is asked of it. */
export const PASSED_ON = { open: "open", closed: "closed", close: "close" } as const;

/** What the page says of each message it was given to send: bytes so far, and its memory back. */
export interface PassedOn {
  readonly taken: number; // bytes given so far
  readonly buffered: number; // bytes of them that the channel still holds
  readonly carrier?: ArrayBuffer; // what the last message lay in
}

/** The worker's end of a data channel, or of the port that stands in for one. */
export class ChannelLane implements Lane {
  private handler: ((message: Bytes) => void) | null = null;
  private readonly held: Bytes[] = []; // what came before anybody asked
  onLost: () => void = () => {};
  readonly opened: Promise<void>;
  private readonly waiting: (() => void)[] = []; // for room
  private lost = false;
  private posted = 0; // bytes, where a port stands in
  private left: PassedOn = { taken: 0, buffered: 0 }; // what its other end says of that
  // What a port is given lies in these, which come back: copies that are only dropped stay for long.
  private readonly carriers: ArrayBuffer[] = [];

  constructor(private readonly pipe: Pipe) {
    this.opened = new Promise((resolve) => {
      if ("readyState" in pipe) {
        pipe.binaryType = "arraybuffer";
        pipe.bufferedAmountLowThreshold = LOW_WATER;
        pipe.onbufferedamountlow = () => this.drained();
        pipe.onmessage = ({ data }) => this.take(data);
        pipe.onclose = () => this.lose();
        pipe.onopen = () => resolve();
        if (pipe.readyState === "open") resolve();
      } else {
        pipe.onmessage = ({ data }) => {
          if (data === PASSED_ON.open) resolve();
          else if (data === PASSED_ON.closed) this.lose();
          else if (data !== null && typeof data === "object" && "taken" in data) {
            this.left = data;
            if (data.carrier) this.carriers.push(data.carrier);
            if (this.buffered <= LOW_WATER) this.drained();
          } else this.take(data);
        };
      }
    });
  }

  set onMessage(handler: (message: Bytes) => void) {
    this.handler = handler;
    this.held.splice(0).forEach(handler);
  }

  private take(data: unknown): void {
    if (!(data instanceof ArrayBuffer)) return this.lose(); // nothing of ours is text
    const message = new Uint8Array(data);
    if (this.handler) this.handler(message);
    else if (this.held.push(message) > MOST_HELD) this.lose();
  }

  private lose(): void {
    this.lost = true;
    this.drained();
    this.onLost();
  }

  private get buffered(): number {
    if ("bufferedAmount" in this.pipe) return this.pipe.bufferedAmount;
    return this.posted - this.left.taken + this.left.buffered;
  }

  private drained(): void {
    this.waiting.splice(0).forEach((go) => go());
  }

  async room(): Promise<void> {
    while (!this.lost && this.buffered > HIGH_WATER) {
      await new Promise<void>((resolve) => this.waiting.push(resolve));
    }
  }

  send(message: Bytes): void {
    try {
      if ("send" in this.pipe) this.pipe.send(message as Uint8Array<ArrayBuffer>);
      else {
        this.posted += message.length;
        const carrier = this.carriers.pop() ?? new ArrayBuffer(CARRIER);
        const copy = new Uint8Array(carrier, 0, message.length);
        copy.set(message);
        this.pipe.postMessage(copy, [carrier]);
      }
    } catch {
      this.lose();
    }
  }

  close(): void {
    this.onMessage = () => {};
    this.onLost = () => {};
    this.lost = true;
    this.drained();
    if (!("readyState" in this.pipe)) this.pipe.postMessage(PASSED_ON.close); // behind what is queued
    this.pipe.close();
  }
}

/** The page's part: a port that stands in for a channel, or a WebSocket. */
export function passOn(channel: RTCDataChannel | WebSocket): MessagePort {
  const { port1, port2 } = new MessageChannel();
  let taken = 0; // bytes
  const tellLeft = (carrier?: ArrayBuffer) => {
    const told: PassedOn = {
      taken,
      buffered: channel.bufferedAmount,
      ...(carrier && { carrier }),
    };
    port1.postMessage(told, carrier ? [carrier] : []);
  };
  channel.binaryType = "arraybuffer";
  if ("bufferedAmountLowThreshold" in channel) {
    channel.bufferedAmountLowThreshold = LOW_WATER;
    channel.onbufferedamountlow = () => tellLeft();
  }
  channel.onopen = () => port1.postMessage(PASSED_ON.open);
  channel.onclose = () => port1.postMessage(PASSED_ON.closed);
  channel.onmessage = ({ data }: MessageEvent<ArrayBuffer>) =>
    port1.postMessage(data, data instanceof ArrayBuffer ? [data] : []);
  port1.onmessage = ({ data }: MessageEvent<Bytes | typeof PASSED_ON.close>) => {
    if (data === PASSED_ON.close) return channel.close();
    const open = channel.readyState === "open" || channel.readyState === WebSocket.OPEN;
    if (open) channel.send(data as Uint8Array<ArrayBuffer>);
    taken += data.byteLength;
    tellLeft(data.buffer as ArrayBuffer);
  };
  return port2;
}
