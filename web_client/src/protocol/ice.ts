/**
 * The STUN and TURN servers that a signaling server tells its peers of (mirrors `p2p/protocol/ice.py`).
 * What it says is taken where it fits, and left out where not: it can deny service anyway.
 */
import { integer, listOf, members, optional, readAs, text, type Json } from "./codec";
import type { IceServer } from "./ice_server";
import { isLoopback, isOneHost } from "./signal";

const MAX_SERVERS = 8;
const [MAX_URL, MAX_LOGIN] = [320, 256]; // characters
const MAX_TTL = 7 * 24 * 3600; // seconds

// RFC 7064 and 7065. A host is a name, an IPv4 address, or an IPv6 address in brackets.
const URL_FORM =
  /^(stun|turns?):(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9.-]{1,253})(?::([0-9]{1,5}))?(?:\?transport=(udp|tcp))?$/;

const server = members({
  url: text(MAX_URL, { empty: false }),
  username: optional(text(MAX_LOGIN, { empty: false })),
  credential: optional(text(MAX_LOGIN, { empty: false })),
});
const told = members({ servers: listOf(server, MAX_SERVERS), ttl: integer(1, MAX_TTL) });

/**
 * What a signaling server says in `ice`; null is no servers.
 *
 * `local`: the signaling server is this very machine, so that others here may be as well. Elsewhere a
 * server on this machine or its link is left out: nobody's word makes a peer talk to its own services.
 * Throws `PeerError` for what has not the shape.
 */
export function readIce(value: Json | null, { local }: { local: boolean }): IceServer[] {
  if (value === null) return [];
  const { servers } = readAs(told, value, "ice");
  return servers.flatMap(({ url, username, credential }) => {
    const [, scheme, bracketed, port, transport] = URL_FORM.exec(url) ?? [];
    if (scheme === undefined || !mayAsk(bracketed!.replace(/^\[|\]$/g, ""), local)) return [];
    if (port !== undefined && !(Number(port) > 0 && Number(port) < 65536)) return [];
    if (scheme === "stun") {
      return username === null && credential === null && !transport ? [{ urls: url }] : [];
    }
    if (username === null || credential === null) return [];
    if (scheme === "turns" && transport === "udp") return [];
    return [{ urls: url, username, credential }];
  });
}

/** Whether a STUN or TURN server may be there: a name, or an address of one other host, or of this one. */
function mayAsk(host: string, local: boolean): boolean {
  if (/^[0-9.]+$|:/.test(host)) return isOneHost(host) || (local && isLoopback(host));
  return local || !host.toLowerCase().replace(/\.+$/, "").endsWith("localhost");
}
