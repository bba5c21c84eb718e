/** STUN and TURN servers as a page has them: it knows nothing else of the protocol. */

/** One of them, as `RTCPeerConnection` takes it. */
export interface IceServer {
  readonly urls: string;
  readonly username?: string;
  readonly credential?: string;
}

export const isTurn = ({ urls }: IceServer): boolean => urls.startsWith("turn");

/** The STUN servers among them; TURN servers by UDP answer as such too (RFC 8656). */
export function stunOf(servers: readonly IceServer[]): IceServer[] {
  const urls = servers
    .filter((one) => !isTurn(one) || /^turn:(?!.*transport=tcp)/.test(one.urls))
    .map(({ urls }) => urls.replace(/^turn:/, "stun:").replace(/\?.*$/, ""));
  return [...new Set(urls)].map((url) => ({ urls: url }));
}
