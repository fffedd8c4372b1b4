// The page in Firefox: two people on two pods write to each other. `go test ./test -run ThePageInFirefox` starts it. Firefox is driven by
// WebDriver BiDi over a plain socket: Playwright's channel for it needs commands that Debian's release does not have yet.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import os from "node:os";
import path from "node:path";
import readline from "node:readline";

const WebSocket = createRequire(path.join(process.env.PARLEY_TEST_TOOLS, "package.json"))("ws");
const urls = process.env.PARLEY_TEST_URLS.split(",");
const patience = 30_000;

/** A Firefox with a profile of its own. */
class Firefox {
  nextId = 1;
  waiting = new Map();
  faults = [];

  static async start() {
    const f = new Firefox();
    f.profile = mkdtempSync(path.join(os.tmpdir(), "parley-firefox-"));
    f.process = spawn(process.env.PARLEY_TEST_FIREFOX_PATH, ["--headless", "--no-remote", "--profile", f.profile, "--remote-debugging-port", "0"], { stdio: ["ignore", "ignore", "pipe"] });
    let address;
    for await (const line of readline.createInterface({ input: f.process.stderr })) {
      address = /WebDriver BiDi listening on (ws:\S+)/.exec(line)?.[1];
      if (address) break;
    }
    f.process.stderr.resume();
    f.socket = new WebSocket(address + "/session");
    await new Promise((resolve, reject) => f.socket.on("open", resolve).on("error", reject));
    f.socket.on("message", (data) => f.receive(JSON.parse(data)));
    await f.send("session.new", { capabilities: {} });
    await f.send("session.subscribe", { events: ["log.entryAdded"] });
    return f;
  }

  receive(m) {
    if (m.method === "log.entryAdded" && m.params.level === "error") this.faults.push(m.params.text);
    const waiter = this.waiting.get(m.id);
    this.waiting.delete(m.id);
    if (m.type === "success") waiter?.resolve(m.result);
    else if (m.type === "error") waiter?.reject(new Error(`${m.error}: ${m.message}`));
  }

  send(method, params) {
    const id = this.nextId++;
    this.socket.send(JSON.stringify({ id, method, params }));
    return new Promise((resolve, reject) => this.waiting.set(id, { resolve, reject }));
  }

  async stop() {
    const ended = new Promise((r) => this.process.once("exit", r));
    this.process.kill();
    await ended;
    rmSync(this.profile, { recursive: true, force: true });
  }
}

/** Somebody with cookies and storage of their own, on a pod. */
class Person {
  static async open(firefox, name, pod) {
    const p = new Person();
    Object.assign(p, { firefox, name, username: `${name.toLowerCase()}_${Math.random().toString(36).slice(2, 8)}` });
    const { userContext } = await firefox.send("browser.createUserContext", {});
    p.context = (await firefox.send("browsingContext.create", { type: "window", userContext })).context;
    await firefox.send("browsingContext.navigate", { context: p.context, url: urls[pod], wait: "complete" });
    return p;
  }

  /** Runs a function in the page. Arguments and result are JSON. */
  async run(fn, ...args) {
    const expression = `(async () => JSON.stringify(await (${fn})(...${JSON.stringify(args)})) ?? "null")()`;
    const { result, exceptionDetails } = await this.firefox.send("script.evaluate", { expression, awaitPromise: true, target: { context: this.context } });
    if (exceptionDetails) throw new Error(exceptionDetails.text);
    return JSON.parse(result.value);
  }

  async until(what, fn, ...args) {
    for (const end = Date.now() + patience; ;) {
      const found = await this.run(fn, ...args);
      if (found) return found;
      if (Date.now() > end) throw new Error(`${this.name}, never: ${what}\n${await this.run(() => document.body.innerText)}`);
      await new Promise((r) => setTimeout(r, 50));
    }
  }

  perform(action) {
    return this.firefox.send("input.performActions", { context: this.context, actions: [action] });
  }

  /** Clicks what a selector finds, the last one of that text or label. */
  async click(selector, text = "") {
    const at = await this.until(`${selector} ${text}`, (sel, wanted) => {
      const el = [...document.querySelectorAll(sel)].findLast((e) => (e.getAttribute("aria-label") ?? e.textContent).includes(wanted) && e.checkVisibility() && !e.disabled);
      el?.scrollIntoView({ block: "nearest" });
      const box = el?.getBoundingClientRect();
      return box && { x: Math.round(box.x + box.width / 2), y: Math.round(box.y + box.height / 2) };
    }, selector, text);
    await this.perform({ type: "pointer", id: "mouse", actions: [{ type: "pointerMove", ...at }, { type: "pointerDown", button: 0 }, { type: "pointerUp", button: 0 }] });
  }

  /** Types into what has the focus. "\uE007" is Enter, "\uE013" Up. */
  type(text) {
    return this.perform({ type: "key", id: "keys", actions: [...text].flatMap((value) => [{ type: "keyDown", value }, { type: "keyUp", value }]) });
  }

  sees(text) {
    return this.until(`"${text}" is shown`, (t) => [...document.querySelectorAll(".bubble > p")].some((p) => p.textContent === t), text);
  }

  async signUp() {
    await this.click("button.link", "Create an account");
    for (const [field, text] of [["displayName", this.name], ["username", this.username], ["password", "correct horse battery"]]) {
      await this.click(`input[name=${field}]`);
      await this.type(text);
    }
    await this.type("\uE007");
    await this.until("the list is shown", () => document.querySelector("h1")?.textContent === "Chats");
  }
}

/** Waits until both pages show the whole history, without drafts. */
async function agree(people) {
  for (const p of people) {
    await p.until("the page shows what REST has", async () => {
      const id = location.hash.slice(4);
      const { accessToken } = JSON.parse(localStorage.getItem("parley.session"));
      const res = await fetch(`/api/conversations/${id}/messages?afterSeq=0`, { headers: { Authorization: "Bearer " + accessToken } });
      const want = (await res.json()).data?.map((m) => m.id + m.content).join();
      const rows = [...document.querySelectorAll(".messages > [data-id]")].map((li) => li.dataset.id + li.querySelector(".bubble > p").textContent);
      return rows.join() === want && document.querySelector(".draft") === null;
    });
  }
}

async function story(firefox) {
  const [anna, ben] = [await Person.open(firefox, "Anna", 0), await Person.open(firefox, "Ben", 1)];
  for (const p of [ben, anna]) await p.signUp();
  await anna.click("button", "New chat");
  await anna.click("input[type=search]", "Find people");
  await anna.type(ben.username);
  await anna.click("button.person", "@" + ben.username);
  await anna.click("button.primary", "Start chat");
  await anna.click("textarea");
  await anna.type("Hello Ben\uE007");
  await ben.until("it is counted", () => document.title === "(1) Parley");
  await ben.click(".rows a", "Anna");
  await ben.sees("Hello Ben");
  await ben.click("textarea");
  await ben.type("Hello Anna");
  await anna.until("Ben is typing", () => document.querySelector(".typing").textContent.includes("Ben is typing"));
  await ben.type("\uE007");
  await anna.sees("Hello Anna");
  await anna.type("\uE013, dear\uE007");
  await ben.sees("Hello Ben, dear");
  await ben.click(".messages > [data-id]", "Hello Ben, dear");
  await ben.click(".tools button", "React with 🎉");
  await anna.until("the reaction is there", () => document.querySelector(".reaction")?.textContent === "🎉1");
  await agree([anna, ben]);
  await anna.run(() => location.reload());
  await anna.sees("Hello Anna");
  await agree([anna, ben]);
  await anna.click("button", "Settings");
  await anna.until("the sessions are listed", () => document.querySelector("dialog")?.textContent.includes("This device"));
  await anna.click("button.danger", "Log out");
  await anna.until("nobody is signed in", () => localStorage.getItem("parley.session") === null);
}

const firefox = await Firefox.start();
try {
  await story(firefox);
  assert.deepEqual(firefox.faults, []);
  console.log("all as promised");
} catch (err) {
  console.error(err.stack);
  console.error(firefox.faults.join("\n"));
  process.exitCode = 1;
}
await firefox.stop();
process.exit();
