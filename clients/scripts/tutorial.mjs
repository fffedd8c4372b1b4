// tutorial.mjs: follows docs/tutorial-react.md in an empty folder: runs what it says to run, writes the files that it shows.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

const clients = path.join(path.dirname(fileURLToPath(import.meta.url)), "..");
const page = readFileSync(process.argv[2] ?? path.join(clients, "../docs/tutorial-react.md"), "utf8");
const folder = mkdtempSync(path.join(os.tmpdir(), "parley-tutorial-"));
const app = path.join(folder, "my-chat");

try {
  let files = 0;
  for (const [, what, code] of page.matchAll(/<!-- (run|file: \S+) -->\n```\w+\n([\s\S]*?)```/g)) {
    if (what !== "run") {
      writeFileSync(path.join(app, what.slice("file: ".length)), code);
      files++;
      continue;
    }
    // The packages of clients/ are installed already where this runs.
    const script = code.replace(/^\(cd "\$PARLEY\/clients".*\n/m, "");
    const run = spawnSync("bash", ["-euc", script], {
      cwd: existsSync(app) ? app : folder, env: { ...process.env, PARLEY: path.join(clients, "..") }, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"],
    });
    assert.equal(run.status, 0, `${script}\n${run.stdout}\n${run.stderr}`);
  }
  assert.equal(files, 3);
  const built = readdirSync(path.join(app, "dist/assets"));
  assert.ok(built.some((f) => f.endsWith(".js")), "nothing was built");
  for (const name of ["client", "react"]) {
    const installed = path.join(app, "node_modules/@parley-chat", name);
    const { exports } = JSON.parse(readFileSync(path.join(installed, "package.json"), "utf8"));
    for (const file of Object.values(exports["."])) assert.ok(existsSync(path.join(installed, file)), `${name} lacks ${file}`);
  }
  console.log("docs/tutorial-react.md: its app is built");
} finally {
  rmSync(folder, { recursive: true, force: true });
}
