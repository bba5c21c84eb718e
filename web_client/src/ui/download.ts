/** Saving to the disk of this computer, as any download. */
import { h } from "./elements";

const addresses: string[] = [];

/** The address lives until `revokeDownloads`: a download reads from it as it goes. */
export function download(name: string, content: Blob): void {
  const address = URL.createObjectURL(content);
  addresses.push(address);
  h("a", { href: address, download: name }).click();
}

/** Let go of every copy that was offered; a download that has begun goes on. */
export function revokeDownloads(): void {
  addresses.splice(0).forEach((address) => URL.revokeObjectURL(address));
}
