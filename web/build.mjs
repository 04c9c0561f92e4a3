// Builds the npm package into dist/, and the demo page with everything that it needs into the Python package.
// Run by `npm run build`; `make web` runs `npm ci` first.

import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { build } from "esbuild";

const HERE = dirname(fileURLToPath(import.meta.url));
const DIST = join(HERE, "dist");
const ASSETS = join(HERE, "..", "src", "samesight", "web", "assets");
const PARTS = {
  "ort-wasm-simd-threaded.mjs": "onnxruntime-web/dist/ort-wasm-simd-threaded.mjs",
  "ort-wasm-simd-threaded.wasm": "onnxruntime-web/dist/ort-wasm-simd-threaded.wasm",
  "jpeg.wasm": "@jsquash/jpeg/codec/dec/mozjpeg_dec.wasm",
  "webp.wasm": "@jsquash/webp/codec/dec/webp_dec.wasm",
};
const BUNDLED = ["onnxruntime-web", "@jsquash/jpeg", "@jsquash/webp", "fflate", "react", "react-dom", "scheduler"];

const common = {
  absWorkingDir: HERE,
  bundle: true,
  format: "esm",
  target: "es2022",
  minify: true,
  legalComments: "none",
  logLevel: "warning",
  // ONNX Runtime's own files stay files, which its threads load again.
  conditions: ["onnxruntime-web-use-extern-wasm"],
};

async function buildPackage() {
  rmSync(DIST, { recursive: true, force: true });
  await build({
    ...common,
    entryPoints: { index: "src/index.ts", worker: "src/worker.ts" },
    outdir: DIST,
  });
  await build({
    ...common,
    entryPoints: { react: "src/react/index.tsx" },
    external: ["react", "react/jsx-runtime"],
    plugins: [beside],
    outdir: DIST,
  });
  for (const [name, from] of Object.entries(PARTS)) cpSync(join(HERE, "node_modules", from), join(DIST, name));
  cpSync(join(HERE, "src", "react", "style.css"), join(DIST, "style.css"));
  writeFileSync(join(DIST, "THIRD_PARTY.txt"), licences());
  execFileSync(process.execPath, [join(HERE, "node_modules", "typescript", "bin", "tsc"), "-p", HERE], { stdio: "inherit" });
}

/** The React part takes the engine from index.js, so that a page has it once. */
const beside = {
  name: "beside",
  setup({ onResolve }) {
    onResolve({ filter: /^\.\.\/index\.js$/ }, () => ({ path: "./index.js", external: true }));
  },
};

async function buildSite() {
  rmSync(ASSETS, { recursive: true, force: true });
  mkdirSync(ASSETS, { recursive: true });
  await build({
    ...common,
    entryPoints: { page: "demo/page.tsx", "service-worker": "demo/service-worker.ts" },
    define: { "process.env.NODE_ENV": '"production"' },
    jsx: "automatic",
    outdir: ASSETS,
  });
  for (const name of ["index.html", "icon.svg", "manifest.webmanifest"]) {
    cpSync(join(HERE, "demo", name), join(ASSETS, name));
  }
  mkdirSync(join(ASSETS, "runtime"));
  for (const name of readdirSync(DIST)) {
    if (/\.(js|mjs|wasm|txt)$/.test(name)) cpSync(join(DIST, name), join(ASSETS, "runtime", name));
  }
}

function licences() {
  return BUNDLED.map((name) => {
    const folder = join(HERE, "node_modules", name);
    const { version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
    const file = readdirSync(folder).find((one) => /^licen[cs]e/i.test(one));
    const words = file === undefined ? license : readFileSync(join(folder, file), "utf8");
    return `${name} ${version} (${license})\n\n${words.trim()}\n`;
  }).join(`\n${"-".repeat(80)}\n\n`);
}

await buildPackage();
await buildSite();
