import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const home = path.join(path.dirname(fileURLToPath(import.meta.url)), "../../../../typescript");
const { buildSync } = createRequire(path.join(home, "package.json"))("esbuild") as typeof import("esbuild");

test("the whole client is at most 15 KB gzipped, and has no dependency", () => {
  const { outputFiles } = buildSync({ entryPoints: [path.join(home, "src/index.ts")], bundle: true, minify: true, format: "esm", target: "es2022", write: false });
  const size = gzipSync(outputFiles[0]!.contents, { level: 9 }).length;
  assert.ok(size <= 15 * 1024, `${size} bytes`);
  assert.ok(size > 5_000, "the bundle is not whole");
  const { dependencies, peerDependencies } = JSON.parse(readFileSync(path.join(home, "package.json"), "utf8"));
  assert.deepEqual([dependencies, peerDependencies], [undefined, undefined]);
});
