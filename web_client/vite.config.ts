import { defineConfig } from "vite";

// The page is served at `/`; names carry the hash of their content; nothing depends on when or
// where it is built, so that `handover verify-web` can compare byte by byte.
export default defineConfig({
  base: "/",
  build: {
    outDir: "../signaling/web",
    emptyOutDir: true,
    target: "es2023",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
  worker: { format: "es" },
});
