/** How this program names itself in handshakes and receipts. */
export const SOFTWARE = `handover-web/${__VERSION__}`;
