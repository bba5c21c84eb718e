import { readFileSync } from "node:fs";

import { defineConfig, type Plugin } from "vite";

/**
 * `virtual:zstd`: the WebAssembly inside the package `zstddec`, base64. Its own wrapper fetches that from
 * a `data:` address, which the page's policy forbids, and makes no difference between data and an error.
 */
function zstd(): Plugin {
  const name = "virtual:zstd";
  const source = new URL("node_modules/zstddec/dist/zstddec.mjs", import.meta.url);
  return {
    name,
    resolveId: (id) => (id === name ? name : null),
    load(id) {
      if (id !== name) return null;
      const [, code] = /const wasm = "([\w+/]+=*)";/.exec(readFileSync(source, "utf8")) ?? [];
      if (!code) throw new Error("zstddec is not what it was: where is its WebAssembly?");
      return `export default ${JSON.stringify(code)};`;
    },
  };
}

/** The version, from where the command line has it. */
function version(): string {
  const source = new URL("../p2p/version.py", import.meta.url);
  const [, found] = /^VERSION = "(.+)"$/m.exec(readFileSync(source, "utf8")) ?? [];
  if (!found) throw new Error("p2p/version.py names no VERSION");
  return found;
}

// The page is served at `/`; names carry the hash of their content; nothing depends on when or
// where it is built, so that `handover verify-web` can compare byte by byte.
export default defineConfig({
  base: "/",
  define: { __VERSION__: JSON.stringify(version()) },
  plugins: [zstd()],
  build: {
    outDir: "../signaling/web",
    emptyOutDir: true,
    target: "es2023",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
  worker: { format: "es", plugins: () => [zstd()] },
});
