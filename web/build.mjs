// Builds the page into internal/web/dist, where the api embeds it. With --check it builds into memory and fails if what is committed
// differs. It uses the tools of clients/: `node web/build.mjs [--check] [DIR]`, where DIR has their node_modules.
import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const most = 100 * 1024; // gzipped, all files together
const here = dirname(fileURLToPath(import.meta.url));
const out = join(here, "../internal/web/dist");
const args = process.argv.slice(2);
const check = args.includes("--check");
const tools = resolve(args.find((a) => !a.startsWith("--")) ?? join(here, "../clients"));
const { build } = createRequire(join(tools, "package.json"))("esbuild");

async function bundle(entry, options) {
  const result = await build({
    entryPoints: [join(here, entry)], bundle: true, minify: true, write: false, charset: "utf8", legalComments: "none", target: "es2022",
    alias: { "@parley-chat/client": join(here, "../clients/typescript/src/index.ts") }, absWorkingDir: join(here, ".."), logLevel: "warning",
    tsconfigRaw: "{}", ...options,
  });
  return result.outputFiles[0].contents;
}

const hashed = (name, ext, bytes) => `${name}-${createHash("sha256").update(bytes).digest("hex").slice(0, 12)}.${ext}`;

const script = await bundle("src/main.ts", { format: "esm" });
const style = await bundle("src/style.css", {});
const files = new Map([[hashed("app", "js", script), script], [hashed("app", "css", style), style]]);
const [js, css] = [...files.keys()];
const index = (await readFile(join(here, "index.html"), "utf8")).replace("%STYLE%", `/assets/${css}`).replace("%SCRIPT%", `/assets/${js}`);
files.set("index.html", Buffer.from(index));

let size = 0;
for (const bytes of files.values()) size += gzipSync(bytes, { level: 9 }).length;
if (size > most) throw new Error(`the page is ${size} bytes gzipped, more than ${most}`);

await mkdir(out, { recursive: true });
const present = await readdir(out);
if (check) {
  const stale = present.filter((name) => !files.has(name));
  for (const [name, bytes] of files) {
    if (!present.includes(name) || Buffer.compare(await readFile(join(out, name)), Buffer.from(bytes)) !== 0) stale.push(name);
  }
  if (stale.length > 0) {
    console.error(`internal/web/dist is not what web/ builds (${stale.join(", ")}): run make page`);
    process.exit(1);
  }
} else {
  for (const name of present) await rm(join(out, name));
  for (const [name, bytes] of files) await writeFile(join(out, name), bytes);
}
console.log(`the page: ${size} bytes gzipped`);
