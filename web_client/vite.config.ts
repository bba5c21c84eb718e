import { existsSync, readFileSync } from "node:fs";

import { defineConfig, type Plugin } from "vite";

const near = (path: string) => new URL(path, import.meta.url);

/**
 * `virtual:zstd`: the WebAssembly inside the package `zstddec`, base64. Its own wrapper fetches that from
 * a `data:` address, which the page's policy forbids, and makes no difference between data and an error.
 */
function zstd(): Plugin {
  const name = "virtual:zstd";
  const source = near("node_modules/zstddec/dist/zstddec.mjs");
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

/** The packages that the page is built of, and what they need. */
function packages(): string[] {
  const needed = (path: string): string[] =>
    Object.keys(JSON.parse(readFileSync(near(path), "utf8")).dependencies ?? {});
  const found = new Set(needed("package.json"));
  for (const name of found)
    needed(`node_modules/${name}/package.json`).forEach((one) => found.add(one));
  return [...found].sort();
}

/** `licenses.txt` beside the page, which names it, as those who wrote what is built into it ask for. */
function licenses(): Plugin {
  const said = packages().map((name) => {
    const folder = `node_modules/${name}`;
    const { version, license } = JSON.parse(readFileSync(near(`${folder}/package.json`), "utf8"));
    const text = near(`${folder}/LICENSE`);
    const words = existsSync(text)
      ? readFileSync(text, "utf8").trim()
      : "Its package has no text of it.";
    return `${name} ${version} (${license})\n\n${words}\n`;
  });
  const source = said.join(`\n${"-".repeat(80)}\n\n`);
  return {
    name: "licenses",
    apply: "build",
    buildStart() {
      this.emitFile({ type: "asset", name: "licenses.txt", source });
    },
    transformIndexHtml(_, { bundle }) {
      const href = `/${Object.keys(bundle!).find((file) => file.includes("licenses"))}`;
      return [{ tag: "link", attrs: { rel: "license", href }, injectTo: "head" }];
    },
  };
}

/** The version, from where the command line has it. */
function version(): string {
  const source = near("../p2p/version.py");
  const [, found] = /^VERSION = "(.+)"$/m.exec(readFileSync(source, "utf8")) ?? [];
  if (!found) throw new Error("p2p/version.py names no VERSION");
  return found;
}

// The page is served at `/`; names carry the hash of their content; nothing depends on when or
// where it is built, so that `handover verify-web` can compare byte by byte.
export default defineConfig({
  base: "/",
  define: { __VERSION__: JSON.stringify(version()) },
  plugins: [zstd(), licenses()],
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
