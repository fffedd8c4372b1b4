// What the scenarios share: a browser, people with pages, REST beside them, and faults that the Go test brings about.
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import readline from "node:readline";

export const tools = createRequire(path.join(process.env.PARLEY_TEST_TOOLS, "package.json"));
const { chromium } = tools("playwright-core");
const axePath = tools.resolve("axe-core/axe.min.js");

export const urls = process.env.PARLEY_TEST_URLS.split(",");
/** Whether the long scenarios run. */
export const long = process.env.PARLEY_TEST_BROWSER === "long";
export const password = "correct horse battery";
export const pictures = process.env.PARLEY_TEST_PICTURES;
mkdirSync(pictures, { recursive: true });

export const browser = await chromium.launch({
  executablePath: process.env.PARLEY_TEST_CHROMIUM, args: ["--no-sandbox", "--disable-dev-shm-usage", "--force-color-profile=srgb"],
});

const answers = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();

/** Has the Go test do something, and returns its answer. */
export async function fault(what) {
  console.log("@" + what);
  return (await answers.next()).value;
}

/** How long a page may take on a busy machine, in ms. */
export const patience = 120_000;

export async function until(condition, what, seconds = patience / 1000) {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const found = await condition();
    if (found) return found;
    if (Date.now() > end) throw new Error("never: " + what);
    await new Promise((r) => setTimeout(r, 30));
  }
}

/** Runs a part of the suite and prints how long it took. */
export async function step(name, run) {
  const begun = Date.now();
  await run();
  console.log(`${name}: ${((Date.now() - begun) / 1000).toFixed(1)} s`);
}

const pages = new Map(); // name by page

// What Chromium itself prints when a network is away. Everything else in a console is a fault of the page.
const ofTheNetwork = /net::ERR_|WebSocket connection to|Failed to load resource: the server responded with a status of (401|503)/;
export const consoleFaults = [];

/** Takes pictures of all pages as they are: of a run that failed. */
export async function remains() {
  for (const [page, name] of pages) {
    if (!page.isClosed()) await page.screenshot({ path: path.join(pictures, `failed-${name.replace(/\W+/g, "-")}.png`), timeout: 5_000 }).catch(() => {});
  }
}

/** Watches the console of a page. */
export function watch(page, name) {
  pages.set(page, name);
  page.on("pageerror", (e) => consoleFaults.push(`${name}: ${e.stack}`));
  page.on("console", (m) => {
    const text = `${m.text()} ${m.location().url}`;
    if (["error", "warning"].includes(m.type()) && !ofTheNetwork.test(text) && !page.expected?.test(text)) consoleFaults.push(`${name}: ${text}`);
  });
  return page;
}

/** Somebody with a browser of their own, on a pod. */
export class Person {
  static async open(name, pod, options = {}) {
    const p = new Person();
    p.name = name;
    p.username = `${name.toLowerCase()}_${Math.random().toString(36).slice(2, 8)}`;
    p.url = urls[pod];
    p.context = await browser.newContext({ viewport: { width: 1440, height: 900 }, locale: "en-GB", ...options });
    p.context.setDefaultTimeout(patience);
    p.page = watch(await p.context.newPage(), name);
    return p;
  }

  async register() {
    const res = await fetch(`${this.url}/api/auth/register`, {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ username: this.username, password, displayName: this.name }),
    });
    assert.equal(res.status, 201);
    this.keep(await res.json());
    return this;
  }

  keep(session) {
    this.id = session.user.id;
    this.token = session.accessToken;
    this.tokenAt = Date.now();
  }

  /** Signs in by the page. */
  async signIn() {
    await this.page.goto(this.url);
    await this.page.getByLabel("Username").fill(this.username);
    await this.page.getByLabel("Password").fill(this.secret ?? password);
    await this.page.getByRole("button", { name: "Sign in" }).click();
    await this.page.getByRole("heading", { name: "Chats" }).waitFor();
    return this;
  }

  /** A request beside the page, with a session of its own. */
  async rest(method, route, body) {
    if (!this.token || Date.now() - this.tokenAt > 5_000) {
      for (const url of urls) {
        try {
          const res = await fetch(`${url}/api/auth/login`, {
            method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ username: this.username, password: this.secret ?? password }),
          });
          if (res.ok) {
            this.keep(await res.json());
            break;
          }
        } catch {
          continue; // this pod is away
        }
      }
    }
    for (const url of urls) {
      try {
        const res = await fetch(`${url}/api${route}`, {
          method, headers: { Authorization: "Bearer " + this.token, "Content-Type": "application/json" }, ...(body !== undefined && { body: JSON.stringify(body) }),
        });
        if (res.status >= 500) continue;
        if (!res.ok) throw new Error(`${method} ${route}: ${res.status} ${await res.text()}`);
        return res.status === 204 ? undefined : await res.json();
      } catch (err) {
        if (!(err instanceof TypeError)) throw err; // this pod is away
      }
    }
    throw new Error(`${method} ${route}: no pod`);
  }

  async show(id) {
    if (!this.page.url().startsWith(this.url)) await this.page.goto(`${this.url}/#/c/${id}`);
    else await this.page.evaluate((to) => { location.hash = `#/c/${to}`; }, id);
    await this.page.locator(".composer textarea, .room .empty:not(:empty)").first().waitFor();
  }

  get text() {
    return this.page.locator(".composer textarea");
  }

  async send(text) {
    await this.text.fill(text);
    await this.text.press("Enter");
  }

  row(text) {
    return this.page.locator(".message", { has: this.page.locator(".bubble > p", { hasText: text }) }).last();
  }

  /** Opens the tools of a message and clicks one. */
  async tool(text, label) {
    const row = this.row(text);
    await row.hover();
    await row.getByRole("button", { name: label, exact: true }).click();
    await this.page.mouse.move(5, 5);
  }

  sees(text, seconds) {
    return this.row(text).waitFor({ timeout: seconds ? seconds * 1000 : patience });
  }

  /** A row of the list of conversations. */
  listed(title) {
    return this.page.locator(".rows a", { has: this.page.locator(".row-title", { hasText: title }) });
  }

  async details() {
    await this.page.getByRole("button", { name: "Details" }).click();
    return this.page.getByRole("dialog");
  }

  async closeDialog() {
    await this.page.getByRole("dialog").getByRole("button", { name: "Close" }).click();
    await this.page.locator("dialog").waitFor({ state: "detached" });
  }
}

const shown = (page) => page.evaluate(() => ({
  drafts: document.querySelectorAll(".message.draft").length,
  rows: [...document.querySelectorAll(".messages > [data-id]")].map((li) => [
    li.dataset.id, li.querySelector(".bubble .deleted") ? null : (li.querySelector(".bubble > p")?.textContent ?? ""),
    li.querySelector(".meta").textContent.includes("Edited"), [...li.querySelectorAll(".reaction")].map((r) => r.textContent).join(),
  ].join("|")),
}));

/** The whole history by REST. */
export async function history(person, id, from = 0) {
  const all = [];
  for (;;) {
    const page = await person.rest("GET", `/conversations/${id}/messages?afterSeq=${from + all.length}&limit=100`);
    all.push(...page.data);
    if (page.data.length < 100) return all;
  }
}

const expected = (m) => [m.id, m.deletedAt ? null : m.content, m.editedAt !== null && !m.deletedAt, (m.deletedAt ? [] : m.reactions ?? []).map((r) => r.reaction + r.count).join()].join("|");

/** Waits until every page shows what REST has, to the newest, nothing twice and nothing missing, with nothing unsent. */
export async function agree(people, id, { pagesOf = (p) => [p.page], seconds = 40, from = 0 } = {}) {
  for (const p of people) {
    for (const page of pagesOf(p)) {
      let want, got;
      await until(async () => {
        want = (await history(p, id, from)).map(expected);
        got = await shown(page);
        return got.drafts === 0 && got.rows.length > 0 && got.rows.join("\n") === want.slice(-got.rows.length).join("\n") && (got.rows.length === want.length || got.rows.length >= 50);
      }, `${pages.get(page)} shows what REST has`, seconds).catch((err) => {
        throw new Error(`${err.message}: ${got.drafts} drafts\n${got.rows.slice(-8).join("\n")}\n--- REST\n${want.slice(-8).join("\n")}`);
      });
    }
  }
}

/** Holds a view against axe and takes its picture, narrow and wide, light and dark. */
export async function picture(page, name, { sizes = [360, 1440] } = {}) {
  const was = page.viewportSize();
  for (const width of sizes) {
    await page.setViewportSize({ width, height: width < 720 ? 740 : 900 });
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
      await page.waitForTimeout(60); // for the layout, of which nothing reports
      await page.screenshot({ path: path.join(pictures, `${name}-${width}-${colorScheme}.png`) });
      await accessible(page, `${name}, ${width}, ${colorScheme}`);
    }
  }
  await page.emulateMedia({ colorScheme: "light", reducedMotion: null });
  await page.setViewportSize(was);
}

async function accessible(page, name) {
  if (!(await page.evaluate(() => "axe" in globalThis))) {
    const { readFileSync } = await import("node:fs");
    // The page's policy has no place for scripts of others: the debugger's way around it is for this alone.
    const source = readFileSync(axePath, "utf8");
    await page.evaluate(source);
  }
  const found = await page.evaluate(async () => {
    const r = await globalThis.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] });
    return r.violations.map((v) => `${v.impact} ${v.id}: ${v.nodes.slice(0, 3).map((n) => n.html.slice(0, 140)).join(" ;; ")}`);
  });
  const bad = found.filter((v) => /^(serious|critical)/.test(v));
  for (const v of found.filter((f) => !bad.includes(f))) console.log(`axe, ${name}: ${v}`);
  assert.deepEqual(bad, [], `axe, ${name}`);
}
