// What may go wrong under the page. At the end of each both pages show what REST has.
import assert from "node:assert/strict";
import { agree, fault, history, long, Person, until, watch } from "./harness.mjs";

/** Each pod is killed while both write. */
export async function kills({ anna, ben }) {
  await Promise.all([anna.show(anna.direct), ben.show(anna.direct)]);
  for (const pod of [0, 1]) {
    for (let i = 0; i < 8; i++) {
      await Promise.all([anna.send(`kill ${pod}, anna ${i}`), ben.send(`kill ${pod}, ben ${i}`)]);
      if (i === 3) await fault(`kill ${pod}`);
    }
    await agree([anna, ben], anna.direct);
  }
  const all = (await history(anna, anna.direct)).map((m) => m.content);
  for (const who of ["anna", "ben"]) {
    const own = all.filter((t) => t.startsWith("kill") && t.includes(who));
    assert.deepEqual(own, [0, 1].flatMap((pod) => [...Array(8).keys()].map((i) => `kill ${pod}, ${who} ${i}`)));
  }
}

/** A page without a network writes on. What it wrote outlives a reload, too. */
export async function offline({ anna, ben }) {
  await anna.context.setOffline(true);
  await anna.page.getByText("You are offline.").waitFor();
  for (let i = 0; i < 5; i++) {
    await anna.send(`offline ${i}`);
    await ben.send(`online ${i}`);
  }
  assert.equal(await anna.page.locator(".message.draft").count(), 5);
  await anna.page.waitForTimeout(long ? 20_000 : 1_000); // the scenario
  await anna.context.setOffline(false);
  await agree([anna, ben], anna.direct);
  const own = (await history(anna, anna.direct)).map((m) => m.content).filter((t) => t.startsWith("offline"));
  assert.deepEqual(own, [0, 1, 2, 3, 4].map((i) => `offline ${i}`));

  await anna.context.route("**/api/**", (r) => r.abort());
  await anna.context.setOffline(true);
  await anna.send("written before a reload");
  await anna.page.locator(".message.draft").waitFor();
  await anna.context.setOffline(false);
  await anna.page.reload();
  await anna.context.unroute("**/api/**");
  await agree([anna, ben], anna.direct);
  await ben.sees("written before a reload");
}

/** Redis is gone: what is sent is kept, and arrives. */
export async function redis({ anna, ben }) {
  await fault("redis stop");
  for (let i = 0; i < 3; i++) {
    await anna.send(`no redis, anna ${i}`);
    await ben.send(`no redis, ben ${i}`);
  }
  await anna.page.waitForTimeout(long ? 10_000 : 1_000); // the scenario
  await fault("redis start");
  await agree([anna, ben], anna.direct);
  await ben.send("after redis");
  await anna.sees("after redis");
  await agree([anna, ben], anna.direct);
}

/** Three tabs of one person show the same, and refresh their token once for all. */
export async function tabs({ anna, ben }) {
  const others = [];
  let refreshes = 0;
  const count = (r) => { if (r.url().endsWith("/auth/refresh")) refreshes++; };
  anna.context.on("request", count);
  for (const n of [2, 3]) {
    const page = watch(await anna.context.newPage(), `Anna's tab ${n}`);
    await page.goto(`${anna.url}/#/c/${anna.direct}`);
    await page.locator(".composer textarea").waitFor();
    others.push(page);
  }
  const pagesOf = (p) => (p === anna ? [anna.page, ...others] : [p.page]);
  for (const [i, page] of [anna.page, ...others].entries()) {
    await page.bringToFront();
    await page.locator(".composer textarea").fill(`from tab ${i}`);
    await page.locator(".composer textarea").press("Enter");
  }
  await ben.send("to all tabs");
  await agree([anna, ben], anna.direct, { pagesOf });
  // A token lives for ten seconds here. All tabs outlive it, and one of them refreshes it for all.
  const expiry = () => anna.page.evaluate(() => JSON.parse(atob(JSON.parse(localStorage.getItem("parley.session")).accessToken.split(".")[1])).exp * 1000);
  await until(async () => (await expiry()) < Date.now(), "the token expires");
  const before = refreshes, begun = Date.now();
  await Promise.all([anna.page, ...others].map((page) => page.reload()));
  await agree([anna], anna.direct, { pagesOf });
  const most = Math.ceil((Date.now() - begun) / 5_000); // the new token has a life of its own
  assert.ok(refreshes > before && refreshes - before <= most, `${refreshes - before} refreshes by three tabs`);
  await ben.send("after the token");
  await agree([anna, ben], anna.direct, { pagesOf });
  for (const page of others) await page.close();
  anna.context.off("request", count);
  await anna.page.bringToFront();
}

/** A laptop that slept for five minutes. */
export async function clock({ anna, ben }) {
  const page = watch(await anna.context.newPage(), "Anna's laptop");
  await page.clock.install();
  await page.goto(`${anna.url}/#/c/${anna.direct}`);
  await page.locator(".message").first().waitFor();
  await ben.send("before the sleep");
  await agree([anna], anna.direct, { pagesOf: () => [page] });
  await page.clock.fastForward("05:00");
  await ben.send("after the sleep");
  await agree([anna, ben], anna.direct, { pagesOf: (p) => (p === anna ? [page] : [p.page]) });
  await page.locator(".composer textarea").fill("awake");
  await page.locator(".composer textarea").press("Enter");
  await ben.sees("awake");
  await page.close();
  await anna.page.bringToFront();
}

const messages = 20_000;

/** The number at the end of a row's text, and where its top is, of the topmost row that is seen whole. */
const topmost = (page) => page.evaluate(() => {
  const log = document.querySelector(".log");
  const top = log.getBoundingClientRect().top;
  const row = [...log.querySelectorAll(".message")].find((r) => r.getBoundingClientRect().top >= top + 120);
  return { key: row.dataset.key, at: row.getBoundingClientRect().top };
});

/** Up through a long history: nothing jumps, and the document stays small. */
export async function histories({ anna, ben }) {
  const c = await anna.rest("POST", "/conversations", { type: "group", name: "Long", memberIds: [ben.id] });
  anna.long = c.id;
  await fault(`history ${c.id} ${ben.id} ${messages}`);
  await anna.page.reload();
  await anna.show(c.id);
  await anna.sees(`${messages} `);
  let most = 0, worst = 0;
  for (let i = 0; i < (long ? 200 : 40); i++) {
    const before = await topmost(anna.page);
    const moved = await anna.page.evaluate(async ({ key, at }) => {
      const log = document.querySelector(".log");
      const settle = () => new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(r, 0))));
      const was = log.scrollTop;
      log.scrollTop -= 350;
      // Rows above may be added, and those below taken away, which moves scrollTop but not what is seen.
      const by = was - log.scrollTop;
      await settle();
      for (let n = 0; n < 100 && document.querySelector(".log .empty:not(:empty)"); n++) await settle();
      await settle();
      const row = log.querySelector(`[data-key="${CSS.escape(key)}"]`);
      return { by, is: row ? row.getBoundingClientRect().top - at : undefined, rows: log.querySelectorAll(".message").length };
    }, before);
    most = Math.max(most, moved.rows);
    if (moved.is !== undefined) worst = Math.max(worst, Math.abs(moved.is - moved.by));
    assert.ok(worst <= 2, `at step ${i} what is seen jumped by ${worst} pixels: ${JSON.stringify(moved)}`);
  }
  console.log(`  ${most} rows in the document at most, no jump above ${worst.toFixed(1)} px`);
  await banners(anna);
  assert.ok(most <= 151, `${most} rows`);
  await ben.rest("POST", `/conversations/${c.id}/messages`, { content: "the newest of all", clientMessageId: "newest" });
  await anna.page.locator(".jump").getByText("1 new message").waitFor();
  await anna.page.locator(".jump").click();
  await anna.sees("the newest of all");
  await agree([anna], c.id, { from: messages - 200 });
  await anna.show(anna.direct);
}

/** The banner that comes and goes above the page takes its place, but does not move what is read. */
async function banners(anna) {
  const before = await topmost(anna.page);
  for (const offline of [true, false]) {
    await anna.context.setOffline(offline);
    await anna.page.locator(".banner").waitFor({ state: offline ? "visible" : "hidden" });
    const at = await anna.page.evaluate(async (key) => {
      await new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r)));
      return document.querySelector(`.log [data-key="${CSS.escape(key)}"]`).getBoundingClientRect().top;
    }, before.key);
    assert.ok(Math.abs(at - before.at) <= 2, `${offline ? "with" : "after"} the banner what is seen is ${at - before.at} pixels lower`);
  }
}

/** Writing stays quick while fifty messages a second arrive, and the page follows them past the rows that it keeps in the document. */
export async function flood({ anna, ben }) {
  const perSecond = 50, seconds = long ? 10 : 3;
  await anna.show(anna.long);
  await anna.sees("the newest of all");
  await anna.page.evaluate(() => {
    // From a key to the end of the frame that shows it. The browser's own entries also wait for the screen: of a page that stands still
    // that is not reported before the next change.
    globalThis.delays = [];
    document.addEventListener("keydown", (e) => requestAnimationFrame(() => {
      const { port1, port2 } = new MessageChannel();
      port1.onmessage = () => globalThis.delays.push(performance.now() - e.timeStamp);
      port2.postMessage(0);
    }));
  });
  const sends = [];
  // One key in 200 ms, while perSecond messages a second are sent by `each`. Returns what was slow.
  const type = async (each) => {
    await anna.text.fill("");
    let keys = 0;
    const begun = Date.now();
    for (let i = 0; i < perSecond * seconds; i++) {
      const due = begun + (i * 1000) / perSecond;
      if (due > Date.now()) await new Promise((r) => setTimeout(r, due - Date.now()));
      each(i);
      if (i % 10 === 0) keys++, await anna.text.press("a");
    }
    await Promise.all(sends);
    assert.equal(await anna.text.inputValue(), "a".repeat(keys));
    const delays = await anna.page.evaluate(() => globalThis.delays.splice(0).sort((a, b) => a - b).map(Math.round));
    return { took: (Date.now() - begun) / 1000, said: `of ${delays.length} keys half within ${delays[delays.length >> 1]} ms, the slowest after ${delays.at(-1)} ms` };
  };
  const still = await type(() => {});
  const busy = await type((i) => sends.push(ben.rest("POST", `/conversations/${anna.long}/messages`, { content: `flood ${i}`, clientMessageId: `flood ${i}` })));
  await agree([anna], anna.long, { from: messages });
  console.log(`  ${(sends.length / busy.took).toFixed(0)} messages a second: ${busy.said}; none: ${still.said}`);
  await anna.text.fill("");
  await anna.show(anna.direct);
  await ben.show(anna.direct);
}
