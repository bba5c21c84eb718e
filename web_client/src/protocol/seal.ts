/** Sealed ranges (mirrors `p2p/protocol/seal.py`): one sealed box each, its header inside. */
import { MAX_INTEGER, type Bytes } from "./codec";
import { PeerError } from "./errors";
import { MAX_MESSAGE_SIZE } from "./signal";
import { FIRST_SUITE, type OpenBox, type SealBox, type Suite } from "./suite";

export const TRANSFER_ID = 16;
export const HEADER = 34; // transfer(16) || u8(stream) || u8(flags) || u64(offset) || u64(length)
/** True bytes: a range fits a message uncompressed, too (PROTOCOL.md, Ranges, streams and flow control). */
export const MAX_RANGE = MAX_MESSAGE_SIZE - FIRST_SUITE.overhead - HEADER;
/** Flags: zeros and no payload; one zstd frame; of filtered 16-bit samples; second byte first. */
export const [HOLE, ZSTD, FILTER, PHASE] = [0x01, 0x02, 0x04, 0x08];
export const FLAGS = [0, HOLE, ZSTD, ZSTD | FILTER, ZSTD | FILTER | PHASE];

/** What a range belongs to; each stream has its own offsets and acknowledgements. */
export const Stream = { MANIFEST: 0, DATA: 1, DIGESTS: 2 } as const;
export type Stream = (typeof Stream)[keyof typeof Stream];

/** What a range is. `length` counts true bytes; a hole has a length and no payload. */
export interface Header {
  readonly transferId: Bytes;
  readonly stream: Stream;
  readonly flags: number;
  readonly offset: number;
  readonly length: number;
}

/** Whether a range is nothing but zeros. */
export const isHole = (header: Header): boolean => header.flags === HOLE;

/** The offset behind a range. */
export const endOf = (header: Header): number => header.offset + header.length;

const POOLED = 64 * 1024; // buffers are made in steps of this size

/**
 * Seals ranges to a session key (x_R, 32 bytes, public). Their memory is used again once it is given back:
 * browsers are slow to free large buffers that nobody needs any more.
 */
export class RangeSealer {
  private readonly sealBox: SealBox;
  private readonly free = new Map<number, ArrayBuffer[]>(); // by size

  constructor(suite: Suite, sessionKey: Bytes) {
    this.sealBox = suite.sealer(sessionKey);
  }

  /** One message for a lane. */
  seal(header: Header, payload: Bytes): Bytes {
    const fill = (plain: Bytes) => {
      const view = new DataView(plain.buffer, plain.byteOffset, HEADER);
      plain.set(header.transferId);
      view.setUint8(TRANSFER_ID, header.stream);
      view.setUint8(TRANSFER_ID + 1, header.flags);
      view.setBigUint64(TRANSFER_ID + 2, BigInt(header.offset));
      view.setBigUint64(TRANSFER_ID + 10, BigInt(header.length));
      plain.set(payload, HEADER);
    };
    return this.sealBox(HEADER + payload.length, fill, (length) => this.take(length));
  }

  /** Nobody needs this message any more. */
  release({ buffer }: Bytes): void {
    const free = this.free.get(buffer.byteLength) ?? [];
    free.push(buffer as ArrayBuffer);
    this.free.set(buffer.byteLength, free);
  }

  private take(length: number): Bytes {
    const size = Math.ceil(length / POOLED) * POOLED;
    const buffer = this.free.get(size)?.pop() ?? new ArrayBuffer(size);
    return new Uint8Array(buffer, 0, length);
  }
}

/** Opens what is sealed to a session key whose private half is given (32 bytes). */
export class Opener {
  private readonly openBox: OpenBox;
  private readonly least: number; // bytes of a message

  constructor(suite: Suite, privateKey: Bytes) {
    this.openBox = suite.opener(privateKey);
    this.least = suite.overhead + HEADER;
  }

  /** The header and the payload of a message, which is good until the next. Throws `PeerError`. */
  open(message: Bytes): [Header, Bytes] {
    if (message.length < this.least) throw new PeerError("range_too_short");
    if (message.length > MAX_MESSAGE_SIZE) throw new PeerError("range_too_long");
    const plain = this.openBox(message);
    const view = new DataView(plain.buffer, plain.byteOffset, HEADER);
    const [stream, flags] = [view.getUint8(16), view.getUint8(17)];
    const [offset, length] = [Number(view.getBigUint64(18)), Number(view.getBigUint64(26))];
    if (stream > 2 || !FLAGS.includes(flags) || Math.max(offset, length) > MAX_INTEGER) {
      throw new PeerError("range_header_malformed");
    }
    const payload = plain.subarray(HEADER);
    const fits = flags ? payload.length > 0 === (flags !== HOLE) : payload.length === length;
    if (length === 0 || !fits || (flags !== HOLE && length > MAX_RANGE)) {
      throw new PeerError("range_length");
    }
    if (flags && stream !== Stream.DATA) {
      throw new PeerError("range_flags_not_allowed");
    }
    const transferId = plain.slice(0, TRANSFER_ID);
    return [{ transferId, stream: stream as Stream, flags, offset, length }, payload];
  }
}
