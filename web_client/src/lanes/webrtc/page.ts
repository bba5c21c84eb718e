/**
 * The page's part of WebRTC: the peer connections that the worker asks for, for only a page can make
 * them. Their data channels are transferred to the worker; where a browser cannot do that, the page
 * passes messages on.
 */
import type { Pipe, RtcCall, RtcEvent } from "../../events";
import type { IceServer } from "../../protocol/ice_server";
import { CONTROL_CHANNEL, DATA_CHANNEL, passOn } from "../channel";

export class PagePeerConnections {
  private readonly open = new Map<number, RTCPeerConnection>();

  constructor(private readonly tell: (event: RtcEvent, transfer?: Transferable[]) => void) {}

  /** Carry out a call of the worker's. */
  async call(call: RtcCall): Promise<void> {
    const pc = this.open.get(call.connection);
    try {
      if (call.op === "offer") await this.offer(call.connection, call.ice, call.relayOnly);
      else if (call.op === "answer") {
        await this.answer(call.connection, call.sdp, call.ice, call.relayOnly);
      } else if (call.op === "accept") {
        await pc?.setRemoteDescription({ type: "answer", sdp: call.sdp });
      } else if (call.op === "candidate") {
        await pc?.addIceCandidate({ candidate: call.line, sdpMid: "0" });
      } else {
        pc?.close();
        this.open.delete(call.connection);
      }
    } catch {
      // A candidate it cannot use is not the end.
      if (call.op === "candidate") return;
      const type = "RTCPeerConnection" in window ? "lost" : "no_candidates";
      this.tell({ connection: call.connection, type });
    }
  }

  private async offer(
    connection: number,
    ice: readonly IceServer[],
    relayOnly: boolean,
  ): Promise<void> {
    await this.describe(connection, this.make(connection, ice, relayOnly));
  }

  private async answer(
    connection: number,
    sdp: string,
    ice: readonly IceServer[],
    relayOnly: boolean,
  ): Promise<void> {
    const pc = this.make(connection, ice, relayOnly);
    await pc.setRemoteDescription({ type: "offer", sdp });
    await this.describe(connection, pc);
  }

  private async describe(connection: number, pc: RTCPeerConnection): Promise<void> {
    await pc.setLocalDescription();
    this.tell({ connection, type: "described", sdp: pc.localDescription!.sdp });
  }

  private make(
    connection: number,
    ice: readonly IceServer[],
    relayOnly: boolean,
  ): RTCPeerConnection {
    const iceTransportPolicy = relayOnly ? "relay" : "all";
    const pc = new RTCPeerConnection({ iceServers: [...ice], iceTransportPolicy });
    this.open.set(connection, pc);
    let candidates = 0;
    pc.onicecandidate = ({ candidate }) => {
      if (candidate?.candidate) {
        candidates++;
        this.tell({ connection, type: "candidate", line: candidate.candidate });
      }
    };
    pc.onicegatheringstatechange = () => {
      const none = pc.iceGatheringState === "complete" && !candidates && !relayOnly;
      if (none) this.tell({ connection, type: "no_candidates" });
    };
    pc.onconnectionstatechange = () => {
      if (pc.connectionState === "connected") void this.tellPath(connection, pc);
      const over = pc.connectionState === "failed" || pc.connectionState === "closed";
      if (over) this.tell({ connection, type: "lost" });
    };
    // There are two channels; whoever opens another is up to something.
    pc.ondatachannel = () => {
      pc.close();
      this.tell({ connection, type: "lost" });
    };
    const [control, data] = [
      this.channel(pc, "control", CONTROL_CHANNEL),
      this.channel(pc, "data", DATA_CHANNEL),
    ];
    this.tell({ connection, type: "lanes", control, data }, [control, data] as Transferable[]);
    return pc;
  }

  /** A channel to be transferred at once: it must not have carried anything before. */
  private channel(pc: RTCPeerConnection, name: string, id: number): Pipe {
    const channel = pc.createDataChannel(name, { negotiated: true, id });
    channel.binaryType = "arraybuffer";
    return TRANSFERABLE ? channel : passOn(channel);
  }

  private async tellPath(connection: number, pc: RTCPeerConnection): Promise<void> {
    const stats = new Map((await pc.getStats()).entries() as Iterable<[string, any]>);
    for (const { type, selectedCandidatePairId } of stats.values()) {
      const pair = type === "transport" ? stats.get(selectedCandidatePairId) : undefined;
      if (!pair) continue;
      const ends = [pair.localCandidateId, pair.remoteCandidateId].map((id) => stats.get(id));
      const relayed = ends.some((end) => end?.candidateType === "relay");
      this.tell({ connection, type: "path", relayed });
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
