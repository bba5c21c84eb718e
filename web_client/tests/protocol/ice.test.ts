import { describe, expect, test } from "vitest";

import { readIce } from "../../src/protocol/ice";
import { isTurn, stunOf } from "../../src/protocol/ice_server";

const login = { username: "somebody", credential: "open sesame" };

describe("the servers of an attempt", () => {
  const told = {
    servers: [
      { url: "stun:192.0.2.1" },
      { url: "turn:192.0.2.1?transport=udp", ...login },
      { url: "turn:[2001:db8::1]:3479", ...login },
      { url: "turn:192.0.2.1?transport=tcp", ...login },
      { url: "turns:turn.example:443", ...login },
    ],
    ttl: 60,
  };
  const servers = readIce(told, { local: false });

  test("are given to the browser as they are told", () => {
    expect(servers.map(({ urls }) => urls)).toEqual(told.servers.map(({ url }) => url));
    expect(servers[1]).toMatchObject(login);
    expect(servers.map(isTurn)).toEqual([false, true, true, true, true]);
  });

  test("answer as STUN servers where they are reached by UDP, each once and without a login", () => {
    expect(stunOf(servers)).toEqual([
      { urls: "stun:192.0.2.1" },
      { urls: "stun:[2001:db8::1]:3479" },
    ]);
  });
});
