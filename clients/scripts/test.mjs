// test.mjs [typescript|react]: compiles a package with its tests and runs them with Node's own runner.
import { execFileSync, spawnSync } from "node:child_process";
import { readdirSync, rmSync } from "node:fs";
import { fileURLToPath } from "node:url";
import path from "node:path";

const root = path.join(path.dirname(fileURLToPath(import.meta.url)), "..");
const name = process.argv[2] ?? "typescript";
const out = path.join(root, ".build", name);
rmSync(out, { recursive: true, force: true });
execFileSync(process.execPath, [path.join(root, "node_modules/typescript/bin/tsc"), "-p", path.join(root, name, "tsconfig.json")], { stdio: "inherit" });
const wanted = process.argv.slice(3);
const tests = readdirSync(path.join(out, name, "test"))
  .filter((f) => f.endsWith(".test.js") && (wanted.length === 0 || wanted.some((w) => f.startsWith(w + "."))))
  .map((f) => path.join(out, name, "test", f));
process.exit(spawnSync(process.execPath, ["--test", "--test-reporter=spec", ...tests], { stdio: "inherit", cwd: root }).status ?? 1);
