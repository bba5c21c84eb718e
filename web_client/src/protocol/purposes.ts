/** What data is sent for: names alone, for the page shows them too (mirrors a part of `p2p/protocol/manifest.py`). */

/** What the sender says the data is for, by the codes of HL7's PurposeOfUse (v3-ActReason), and their names. */
export const PURPOSES = {
  TREAT: "treatment",
  ETREAT: "emergency",
  HPAYMT: "payment",
  HOPERAT: "operations",
  HRESCH: "research",
  PUBHLTH: "public-health",
  PATRQT: "patient-request",
  HLEGAL: "legal",
} as const;
export type PurposeCode = keyof typeof PURPOSES;
export type PurposeName = (typeof PURPOSES)[PurposeCode];
export const PURPOSE_CODES = Object.keys(PURPOSES) as PurposeCode[];
export const MAX_REASON = 256; // bytes
