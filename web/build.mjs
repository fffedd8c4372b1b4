// Builds the page into internal/web/dist, where the api embeds it, and the page /demo into scripts/playground/dist, for `make run` alone.
// With --check it builds into memory and fails if what is committed differs. It uses the tools of clients/:
// `node web/build.mjs [--check] [DIR]`, where DIR has their node_modules.
import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const most = 100 * 1024; // of the page, gzipped, all files together
const here = dirname(fileURLToPath(import.meta.url));
const args = process.argv.slice(2);
const check = args.includes("--check");
const tools = resolve(args.find((a) => !a.startsWith("--")) ?? join(here, "../clients"));
const { build } = createRequire(join(tools, "package.json"))("esbuild");

async function bundle(entry, options) {
  const result = await build({
    entryPoints: [join(here, entry)], bundle: true, minify: true, write: false, charset: "utf8", legalComments: "none", target: "es2022",
    alias: { "@parley-chat/client": join(here, "../clients/typescript/src/index.ts") }, absWorkingDir: join(here, ".."), logLevel: "warning",
    tsconfigRaw: { compilerOptions: { useDefineForClassFields: false } }, ...options,
  });
  return result.outputFiles[0].contents;
}

const hashed = (name, ext, bytes) => `${name}-${createHash("sha256").update(bytes).digest("hex").slice(0, 12)}.${ext}`;

/** Builds a page of a script, a style sheet and an HTML file, and returns its files by name. */
async function page({ name, script, style, html, index }) {
  const js = await bundle(script, { format: "esm" });
  const css = await bundle(style, {});
  const names = [hashed(name, "js", js), hashed(name, "css", css)];
  const text = (await readFile(join(here, html), "utf8")).replace("%STYLE%", `/assets/${names[1]}`).replace("%SCRIPT%", `/assets/${names[0]}`);
  return new Map([[names[0], js], [names[1], css], [index, Buffer.from(text)]]);
}

/** Writes the files, and nothing else, into a folder of the repository; with --check it compares. */
async function put(files, folder) {
  const out = join(here, "..", folder);
  await mkdir(out, { recursive: true });
  const present = await readdir(out);
  if (!check) {
    for (const name of present) await rm(join(out, name));
    for (const [name, bytes] of files) await writeFile(join(out, name), bytes);
    return;
  }
  const stale = present.filter((name) => !files.has(name));
  for (const [name, bytes] of files) {
    if (!present.includes(name) || Buffer.compare(await readFile(join(out, name)), Buffer.from(bytes)) !== 0) stale.push(name);
  }
  if (stale.length > 0) {
    console.error(`${folder} is not what web/ builds (${stale.join(", ")}): run make page`);
    process.exit(1);
  }
}

const sizeOf = (files) => [...files.values()].reduce((n, bytes) => n + gzipSync(bytes, { level: 9 }).length, 0);

const app = await page({ name: "app", script: "src/main.ts", style: "src/style.css", html: "index.html", index: "index.html" });
app.set("push-worker.js", await bundle("src/push-worker.ts", { format: "iife" })); // a browser knows its worker by its address
const size = sizeOf(app);
if (size > most) throw new Error(`the page is ${size} bytes gzipped, more than ${most}`);
await put(app, "internal/web/dist");
const demo = await page({ name: "demo", script: "demo/main.ts", style: "demo/style.css", html: "demo/index.html", index: "demo.html" });
await put(demo, "scripts/playground/dist");
console.log(`the page: ${size} bytes gzipped; /demo: ${sizeOf(demo)}`);
