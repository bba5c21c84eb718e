/**
 * The check of this computer, as far as only a page can: what comes through outside, by peer connections
 * of its own (mirrors `p2p/connect/doctor.py`).
 */
import { sleep } from "../clock";
import type { Nat, Relayed } from "../events";
import type { IceServer } from "../protocol/ice_server";

const GATHER_SECONDS = 4;
const RELAY_SECONDS = 5;
const RATE_SECONDS = 1;
const CHUNK = 16 * 1024; // bytes
const QUEUED = 1024 * 1024; // bytes that may wait in the browser

/** Whether this browser gives a connection any address of this computer. */
export async function hasCandidates(): Promise<boolean> {
  const pc = new RTCPeerConnection();
  try {
    pc.createDataChannel("check");
    const first = new Promise<boolean>((resolve) => {
      pc.onicecandidate = ({ candidate }) => resolve(Boolean(candidate?.candidate));
    });
    await pc.setLocalDescription();
    return await Promise.race([first, sleep(GATHER_SECONDS).then(() => false)]);
  } finally {
    pc.close();
  }
}

/** How STUN servers see this computer, and what stands between. */
export async function lookOutside(
  stun: readonly IceServer[],
): Promise<{ readonly nat: Nat; readonly outer: string }> {
  const servers = different(stun);
  const seen = await outerOf(servers);
  // Equal answers of several servers are one to a browser: each is asked alone, too.
  const several = seen.length > 0 && servers.length > 1;
  const alone = several ? await Promise.all(servers.map((one) => outerOf([one]))) : [];
  const answering = alone.filter((answers) => answers.length > 0).length;
  return { nat: natOf(seen, answering), outer: seen[0]?.split(" ")[0] ?? "" };
}

/** What these servers see of one port of this computer: "address port". */
async function outerOf(stun: readonly IceServer[]): Promise<string[]> {
  const pc = new RTCPeerConnection({ iceServers: [...stun] });
  const seen = new Set<string>();
  try {
    pc.createDataChannel("check");
    const complete = new Promise<void>((resolve) => {
      pc.onicecandidate = ({ candidate }) => {
        if (!candidate) resolve();
        else if (candidate.type === "srflx") seen.add(`${candidate.address} ${candidate.port}`);
      };
    });
    await pc.setLocalDescription();
    await Promise.race([complete, sleep(GATHER_SECONDS)]);
  } finally {
    pc.close();
  }
  return [...seen];
}

/** The outer addresses and ports ("address port") that so many different servers saw of one port. */
export function natOf(seen: readonly string[], answering: number): Nat {
  const addresses = new Set(seen.map((one) => one.split(" ")[0]));
  if (!seen.length) return "blocked";
  if (addresses.size < seen.length) return "symmetric"; // one address with several ports
  return answering > 1 ? "cone" : "unknown";
}

/** Each server once, by its host and port. */
export function different(stun: readonly IceServer[]): IceServer[] {
  const portOf = ({ urls }: IceServer) => (/:\d+$/.test(urls) ? urls : `${urls}:3478`);
  return [...new Map(stun.map((one) => [portOf(one), one])).values()];
}

/** Whether a TURN server relays, how soon, and how fast; null where it does not. */
export async function tryRelay(server: IceServer): Promise<Relayed | null> {
  const made: RTCPeerConnection[] = [];
  const make = () => {
    made.push(new RTCPeerConnection({ iceServers: [server], iceTransportPolicy: "relay" }));
    return made.at(-1)!;
  };
  try {
    const [one, other] = [make(), make()];
    const began = performance.now();
    let took = -1; // until the first relayed address
    const candidatesOf = (from: RTCPeerConnection) => {
      const early: RTCIceCandidate[] = [];
      let take = (candidate: RTCIceCandidate) => void early.push(candidate);
      from.onicecandidate = ({ candidate }) => {
        if (candidate?.type !== "relay") return; // nor Firefox's mark of the end
        if (took < 0) took = performance.now() - began;
        take(candidate);
      };
      return (to: RTCPeerConnection) => {
        take = (candidate) => void to.addIceCandidate(candidate).catch(() => {});
        early.forEach(take);
      };
    };
    const passOn = [candidatesOf(one), candidatesOf(other)] as const;
    const channel = one.createDataChannel("check", { ordered: false });
    const arriving = new Promise<RTCDataChannel>((resolve) => {
      other.ondatachannel = (event) => resolve(event.channel);
    });
    await one.setLocalDescription();
    await other.setRemoteDescription(one.localDescription!);
    await other.setLocalDescription();
    await one.setRemoteDescription(other.localDescription!);
    passOn[0](other);
    passOn[1](one);
    const opened = new Promise<boolean>((resolve) => (channel.onopen = () => resolve(true)));
    const failed = sleep(RELAY_SECONDS).then(() => false);
    const through = await Promise.race([opened, failed]);
    if (took < 0) return null;
    const rate = through ? await rateOf(channel, await arriving) : 0;
    return { took: Math.round(took), rate };
  } catch {
    return null;
  } finally {
    for (const pc of made) pc.close();
  }
}

/** Bytes a second from one end to the other, so up and down at once. */
async function rateOf(channel: RTCDataChannel, other: RTCDataChannel): Promise<number> {
  let arrived = 0;
  other.binaryType = "arraybuffer";
  other.onmessage = ({ data }: MessageEvent<ArrayBuffer>) => (arrived += data.byteLength);
  const [chunk, began] = [new Uint8Array(CHUNK), performance.now()];
  while (performance.now() - began < RATE_SECONDS * 1000 && channel.readyState === "open") {
    if (channel.bufferedAmount < QUEUED) channel.send(chunk);
    else await sleep(0.005);
  }
  return (arrived * 1000) / (performance.now() - began);
}

/** Seconds that this computer's clock is ahead of the server's; null where it does not say. */
export async function clockAhead(origin: string): Promise<number | null> {
  try {
    const answer = await fetch(`${origin}/healthz`, { method: "HEAD", cache: "no-store" });
    const there = Date.parse(answer.headers.get("Date") ?? "");
    return Number.isNaN(there) ? null : Math.round((Date.now() - there) / 1000);
  } catch {
    return null;
  }
}
