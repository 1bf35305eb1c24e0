/** How the page is built: one script, one style sheet, no inline code; the same source gives the same bytes. */

import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

export default defineConfig({
  plugins: [react()],
  build: {
    outDir: "../src/loraloom/web/static",
    emptyOutDir: true,
    assetsInlineLimit: 0,
    modulePreload: false,
    sourcemap: false,
    target: "es2023",
    reportCompressedSize: false,
  },
  server: { proxy: { "/api": "http://127.0.0.1:7860", "/login": "http://127.0.0.1:7860" } },
  test: { include: ["tests/**/*.test.ts"], pool: "threads", fileParallelism: false },
});
