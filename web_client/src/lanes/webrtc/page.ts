/**
 * Lanes: authenticated message pipes over WebRTC data channels.
 *
 * Only a page can make an `RTCPeerConnection`; the worker asks for it (`RtcCall`) and gets the two
 * data channels transferred. Where a browser cannot transfer them, the page passes messages on.
 */
import type { Bytes } from "../../protocol/codec";

export const [CONTROL_CHANNEL, DATA_CHANNEL] = [0, 1]; // pre-negotiated stream ids

/** What the worker asks the page to do. The sender offers, this side answers. */
export type RtcCall =
  | { readonly op: "answer"; readonly connection: number; readonly sdp: string }
  | { readonly op: "candidate"; readonly connection: number; readonly line: string }
  | { readonly op: "close"; readonly connection: number };

/** What the page tells of a connection. */
export type RtcEvent = { readonly connection: number } & (
  | { readonly fact: "lanes"; readonly control: Pipe; readonly data: Pipe }
  | { readonly fact: "answer"; readonly sdp: string }
  | { readonly fact: "candidate"; readonly line: string }
  | { readonly fact: "opened"; readonly channel: "control" | "data" }
  | { readonly fact: "path"; readonly relayed: boolean }
  | { readonly fact: "lost" }
);

export type Pipe = RTCDataChannel | MessagePort;

const MOST_HELD = 64; // messages before a handler is there: the handshake's, or a lane's first

const PASSED_ON = { open: "open", closed: "closed" } as const; // over a port, beside the messages

/** One end of a pipe in the worker. `onMessage` gets whole messages, in order. */
export class Lane {
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

  /** Queue a message; one that no longer goes out is noticed by its missing answer. */
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

/** The page's part: the peer connections that the worker asks for. */
export class Connections {
  private readonly open = new Map<number, RTCPeerConnection>();

  constructor(private readonly tell: (event: RtcEvent, transfer?: Transferable[]) => void) {}

  /** Carry out a call of the worker's. */
  async call(call: RtcCall): Promise<void> {
    const pc = this.open.get(call.connection);
    try {
      if (call.op === "answer") await this.answer(call.connection, call.sdp);
      else if (call.op === "candidate") {
        await pc?.addIceCandidate({ candidate: call.line, sdpMid: "0" });
      } else {
        pc?.close();
        this.open.delete(call.connection);
      }
    } catch {
      if (call.op === "answer") this.tell({ connection: call.connection, fact: "lost" });
      // a candidate it cannot use is not the end
    }
  }

  private async answer(connection: number, sdp: string): Promise<void> {
    const pc = new RTCPeerConnection({ iceServers: [] });
    this.open.set(connection, pc);
    pc.onicecandidate = ({ candidate }) => {
      if (candidate?.candidate) {
        this.tell({ connection, fact: "candidate", line: candidate.candidate });
      }
    };
    pc.onconnectionstatechange = () => {
      if (pc.connectionState === "connected") void this.tellPath(connection, pc);
      const over = pc.connectionState === "failed" || pc.connectionState === "closed";
      if (over) this.tell({ connection, fact: "lost" });
    };
    const [control, data] = [
      this.channel(pc, "control", CONTROL_CHANNEL),
      this.channel(pc, "data", DATA_CHANNEL),
    ];
    this.tell({ connection, fact: "lanes", control, data }, [control, data] as Transferable[]);
    await pc.setRemoteDescription({ type: "offer", sdp });
    await pc.setLocalDescription();
    this.tell({ connection, fact: "answer", sdp: pc.localDescription!.sdp });
  }

  /** A channel to be transferred at once: it must not have carried anything before. */
  private channel(pc: RTCPeerConnection, name: string, id: number): Pipe {
    const channel = pc.createDataChannel(name, { negotiated: true, id });
    channel.binaryType = "arraybuffer";
    if (TRANSFERABLE) return channel;
    const { port1, port2 } = new MessageChannel();
    channel.onopen = () => port1.postMessage(PASSED_ON.open);
    channel.onclose = () => port1.postMessage(PASSED_ON.closed);
    channel.onmessage = ({ data }: MessageEvent<ArrayBuffer>) => port1.postMessage(data, [data]);
    port1.onmessage = ({ data }) => {
      if (channel.readyState === "open") channel.send(data);
    };
    return port2;
  }

  private async tellPath(connection: number, pc: RTCPeerConnection): Promise<void> {
    const stats = new Map((await pc.getStats()).entries() as Iterable<[string, any]>);
    for (const { type, selectedCandidatePairId } of stats.values()) {
      const pair = type === "transport" ? stats.get(selectedCandidatePairId) : undefined;
      if (!pair) continue;
      const ends = [pair.localCandidateId, pair.remoteCandidateId].map((id) => stats.get(id));
      const relayed = ends.some((end) => end?.candidateType === "relay");
      this.tell({ connection, fact: "path", relayed });
    }
  }
}

/** Whether data channels can be handed to a worker, by trying it on one that is thrown away. */
const TRANSFERABLE = (() => {
  if (typeof RTCPeerConnection === "undefined") return false;
  const pc = new RTCPeerConnection();
  try {
    const channel = pc.createDataChannel("");
    structuredClone(channel, { transfer: [channel as unknown as Transferable] });
    return true;
  } catch {
    return false;
  } finally {
    pc.close();
  }
})();
