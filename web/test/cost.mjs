// What a message costs the page, counted: renders of the list, nodes, layouts. Time would depend on the machine.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { browser, tools, watch } from "./harness.mjs";

const home = (name) => fileURLToPath(new URL("../../" + name, import.meta.url));
const bursts = 10, together = 20, keys = 10;

async function script() {
  const { outputFiles } = await tools("esbuild").build({
    entryPoints: [home("web/test/count.ts")], bundle: true, write: false, format: "esm", target: "es2022", absWorkingDir: home(""),
    alias: { "@parley-chat/client": home("clients/typescript/src/index.ts") }, tsconfigRaw: { compilerOptions: { useDefineForClassFields: false } },
  });
  return outputFiles[0].text;
}

/** Opens the page with so many messages, has more arrive and keys pressed, and returns what was done for them. */
async function costs(js, held) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 } });
  const page = watch(await context.newPage(), `${held} messages`);
  const html = `<!doctype html><html lang="en"><style>${readFileSync(home("web/src/style.css"), "utf8")}</style><body><script type="module" src="/app.js"></script>`;
  await page.route("**/*", (r) => r.fulfill(r.request().url().endsWith(".js") ? { contentType: "text/javascript", body: js } : { contentType: "text/html", body: html }));
  await page.goto("http://parley.test/");
  await page.evaluate((n) => globalThis.open(n), held);
  await page.locator(".message", { hasText: `message ${held}` }).waitFor();
  const cdp = await context.newCDPSession(page);
  await cdp.send("Performance.enable");
  const layouts = async () => (await cdp.send("Performance.getMetrics")).metrics.find((m) => m.name === "LayoutCount").value;
  await page.evaluate(() => {
    Object.assign(globalThis, { renders: 0, nodes: 0 });
    new MutationObserver((all) => {
      globalThis.renders++;
      globalThis.nodes += all.reduce((n, m) => n + m.addedNodes.length + m.removedNodes.length, 0);
    }).observe(document.querySelector(".messages"), { childList: true });
    globalThis.still = () => new Promise((r) => setTimeout(() => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(r))), 100));
  });
  const counted = async (fn) => {
    await page.evaluate(() => globalThis.still());
    const before = await layouts();
    await page.evaluate(() => Object.assign(globalThis, { renders: 0, nodes: 0 }));
    await fn();
    await page.evaluate(() => globalThis.still());
    return { ...(await page.evaluate(() => ({ renders: globalThis.renders, nodes: globalThis.nodes }))), layouts: (await layouts()) - before };
  };
  const burst = () => page.evaluate(async (n) => {
    for (let i = 0; i < n; i++) globalThis.server.say(`burst ${i}`);
    await globalThis.still();
  }, together);
  // Until the document has as many rows as it ever has: from then on a row goes for each that comes.
  for (let i = 0; i < 8; i++) await burst();
  const messages = await counted(async () => {
    for (let i = 0; i < bursts; i++) await burst();
  });
  const text = page.locator(".composer textarea");
  await text.focus();
  const typing = await counted(async () => {
    for (let i = 0; i < keys; i++) await text.press("a");
  });
  await context.close();
  return { messages, typing };
}

/** Messages that come together are one render, and none of it grows with the history. A key leaves the list alone. */
export async function cost() {
  const js = await script();
  const few = await costs(js, 1_000);
  const many = await costs(js, 20_000);
  console.log(`  ${bursts * together} messages in ${bursts} bursts: ${JSON.stringify(few.messages)} of 1,000, ${JSON.stringify(many.messages)} of 20,000; ${keys} keys: ${JSON.stringify(many.typing)}`);
  for (const { messages, typing } of [few, many]) {
    assert.equal(messages.renders, bursts);
    assert.equal(messages.nodes, 2 * bursts * together);
    assert.ok(messages.layouts <= 4 * bursts, `${messages.layouts} layouts`);
    assert.equal(typing.renders, 0);
    assert.ok(typing.layouts <= 2 * keys, `${typing.layouts} layouts for ${keys} keys`);
  }
}
