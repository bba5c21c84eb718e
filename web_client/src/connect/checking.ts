/** The check of this computer, from the page: each way of connecting tried alone, before it matters. */
import type { CheckPath, Finding, Met, Nat } from "../events";
import { isTurn, stunOf } from "../protocol/ice_server";
import { clockAhead, hasCandidates, lookOutside, tryRelay } from "./probe";

const CLOCK_SECONDS = 60; // of difference that is worth a word

/** Try everything; `tell` hears each finding. How a transfer would connect. */
export async function check(
  origin: string,
  met: Promise<Met>,
  roomFor: Promise<number | null>,
  tell: (finding: Finding) => void,
): Promise<CheckPath> {
  const say = (
    name: Finding["name"],
    verdict: Finding["verdict"],
    code: string,
    values: Finding["values"] = {},
  ) => tell({ name, verdict, code, values });
  const { servers, took, code, detail } = await met;
  if (code === "server_unreachable") say("server", "fails", "server_fails", { why: detail });
  else say("server", "works", "server", { ms: took });
  const ahead = code === "server_unreachable" ? null : await clockAhead(origin);
  if (ahead !== null && Math.abs(ahead) <= CLOCK_SECONDS) say("clock", "works", "clock");
  else if (ahead !== null)
    say("clock", "note", ahead > 0 ? "clock_ahead" : "clock_behind", { seconds: Math.abs(ahead) });
  const free = await roomFor;
  if (free === null) say("storage", "note", "storage_memory");
  else say("storage", "works", "storage", { bytes: free });
  if (detail === "room_taken") say("room", "note", "room_of_one");
  else if (code !== "" && code !== "server_unreachable")
    say("room", "fails", "room_fails", { why: detail });
  const reached = await hasCandidates();
  if (!reached) say("candidates", "fails", "no_candidates");
  const inside = reached ? "network" : "none";
  if (code !== "") return detail === "room_taken" ? inside : "none";
  say("room", "works", "room", { servers: servers.length });
  if (!servers.length) {
    say("relay", "note", "no_ice");
    return inside;
  }
  const stun = reached ? stunOf(servers) : [];
  let { nat, outer } = stun.length ? await lookOutside(stun) : { nat: "unasked" as Nat, outer: "" };
  let relays = false;
  for (const server of servers.filter(isTurn)) {
    const [, scheme, host, port, transport] = PARTS.exec(server.urls)!;
    const how = scheme === "turns" ? "TLS" : (transport ?? "udp").toUpperCase();
    const where = { host: host!, port: port ?? (scheme === "turns" ? 5349 : 3478), how };
    const found = await tryRelay(server);
    if (!found) say("relay", "fails", "relay_fails", where);
    else {
      relays ||= found.rate > 0;
      // No outer address by STUN, and UDP comes through all the same: it is this computer's own.
      if (how === "UDP" && nat === "blocked") nat = "none";
      const rate = Math.round(found.rate);
      const [verdict, code] = found.rate ? (["works", "relay"] as const) : NOTHING_CAME;
      say("relay", verdict, code, {
        ...where,
        rate,
        ms: found.took,
      });
    }
  }
  if (outer) say("outer_address", "works", "outer", { outer });
  else if (nat === "blocked") say("outer_address", "fails", "outer_blocked");
  if (!reached) return relays ? "relayed" : "none";
  say("nat", NAT_VERDICTS[nat], `nat_${nat}`);
  return pathOf(nat, relays);
}

const NOTHING_CAME = ["note", "relay_unproven"] as const;
const PARTS = /^(turns?):(\[[^\]]+\]|[^:?]+)(?::(\d+))?(?:\?transport=(udp|tcp))?$/;
const NAT_VERDICTS: { readonly [nat in Nat]: Finding["verdict"] } = {
  none: "works",
  cone: "works",
  symmetric: "note",
  unknown: "note",
  blocked: "fails",
  unasked: "note",
};

/** How a transfer would connect, by what comes through. */
export function pathOf(nat: Nat, relays: boolean): CheckPath {
  if (nat === "none" || nat === "cone") return "direct";
  if (nat === "unknown") return relays ? "either" : "some";
  if (relays) return "relayed";
  return nat === "symmetric" ? "some" : "network";
}
