/** Session descriptions to and from typed fields (mirrors `p2p/lanes/webrtc/sdp.py`; RFC 8829, RFC 8839). */
import { hex, type Bytes } from "../../protocol/codec";
import {
  MAX_MESSAGE_SIZE,
  MIN_MESSAGE_SIZE,
  type Candidate,
  type Description,
} from "../../protocol/signal";

const DEFAULT_MESSAGE_SIZE = 65_536; // where a description names none (RFC 8841 6.1)
const FINGERPRINT = /^a=fingerprint:sha-256 ([0-9A-F:]{95})\r?$/im;
const CANDIDATE = /candidate:(\S+) 1 (\S+) (\d+) (\S+) (\d+) typ (host|srflx|relay)/i;

/** The value of an `a=candidate` attribute (RFC 8839 5.1). */
export function candidateLine(candidate: Candidate): string {
  const { foundation, priority, address, port, kind } = candidate;
  const related = kind === "host" ? "" : " raddr 0.0.0.0 rport 9";
  return `candidate:${foundation} 1 udp ${priority} ${address} ${port} typ ${kind}${related}`;
}

/** A session description with one data channel section, built from the peer's fields alone. */
export function build(description: Description): string {
  const digits = hex(description.fingerprint).toUpperCase().match(/../g)!.join(":");
  const lines = [
    "v=0",
    "o=- 1 1 IN IP4 0.0.0.0",
    "s=-",
    "t=0 0",
    "a=group:BUNDLE 0",
    "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
    "c=IN IP4 0.0.0.0",
    "a=mid:0",
    "a=sendrecv",
    "a=sctp-port:5000",
    `a=max-message-size:${description.maxMessageSize}`,
    `a=setup:${description.setup}`,
    `a=ice-ufrag:${description.ufrag}`,
    `a=ice-pwd:${description.password}`,
    `a=fingerprint:sha-256 ${digits}`,
    ...description.candidates.map((candidate) => `a=${candidateLine(candidate)}`),
  ];
  return `${lines.join("\r\n")}\r\n`;
}

/** This side's description from its own browser's SDP; candidates are read one by one. */
export function readOwn(sdp: string, nonceGuest: Bytes, nonceHost: Bytes): Description {
  const optional = (name: string) => new RegExp(`^a=${name}:(\\S+)`, "m").exec(sdp)?.[1];
  const attribute = (name: string): string => {
    const found = optional(name);
    if (found === undefined) throw new Error(`the browser's description has no ${name}`);
    return found;
  };
  const octets = FINGERPRINT.exec(sdp)?.[1]?.split(":");
  if (!octets) throw new Error("the browser's description has no sha-256 fingerprint");
  const announced = Number(optional("max-message-size") ?? DEFAULT_MESSAGE_SIZE);
  return {
    type: "description",
    nonceGuest,
    nonceHost,
    ufrag: attribute("ice-ufrag"),
    password: attribute("ice-pwd"),
    fingerprint: Uint8Array.from(octets, (octet) => parseInt(octet, 16)),
    setup: attribute("setup") as Description["setup"],
    maxMessageSize: Math.min(Math.max(announced, MIN_MESSAGE_SIZE), MAX_MESSAGE_SIZE),
    candidates: [],
    relayed: false,
  };
}

/** One of this side's UDP candidates from its own browser's text, or null for any other. */
export function readOwnCandidate(line: string): Candidate | null {
  const [, foundation, transport, priority, address, port, kind] = CANDIDATE.exec(line) ?? [];
  if (!foundation || transport!.toLowerCase() !== "udp") return null;
  return {
    foundation: foundation.slice(0, 32),
    priority: Number(priority),
    address: address!,
    port: Number(port),
    kind: kind!.toLowerCase() as Candidate["kind"],
  };
}
