/** Saving to the disk of this computer, as any download. */
import { h } from "./elements";

/** The address lives as long as the page: a download reads from it as it goes. */
export function download(name: string, content: Blob): void {
  h("a", { href: URL.createObjectURL(content), download: name }).click();
}
