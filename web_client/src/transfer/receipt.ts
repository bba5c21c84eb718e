/** The receipt's payload, as the recipient writes it (PROTOCOL.md, The receipt). */
import { encodeBase64url, encodeJson, type Bytes } from "../protocol/codec";
import type { Results } from "../protocol/manifest";
import { TYPE, party } from "../protocol/receipt";
import { fingerprints } from "../protocol/handshake";
import type { RecipientSession } from "../protocol/session";
import { SOFTWARE } from "../version";
import type { Connected } from "./driver";

/** What the session does not know of it. */
export interface Stated {
  readonly results: Results;
  readonly root: Bytes;
  readonly stored: "file" | "browser";
  readonly auditHead: string; // this side's
  readonly verified: string; // when
}

export function receiptPayload(
  { secured, identity, binding, connection }: Connected,
  session: RecipientSession,
  { results, root, stored, auditHead, verified }: Stated,
): Bytes {
  const { peer } = secured;
  const { sender, recipient } = fingerprints(binding);
  return encodeJson({
    type: TYPE,
    sender: party(peer.identity, peer.label, peer.software, session.senderAuditHead),
    recipient: party(identity.public, identity.label, SOFTWARE, auditHead),
    stored,
    security: {
      suite: secured.suite.name,
      transcript: encodeBase64url(secured.transcript),
      fingerprint_sender: encodeBase64url(sender),
      fingerprint_recipient: encodeBase64url(recipient),
      path: connection.path,
      digits_confirmed: session.needsConfirmation,
      passphrase: binding.passphrase,
    },
    ...session.receiptMembers(results, root, verified),
  });
}
