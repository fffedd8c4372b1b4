// Web push: the settings, the service worker under the page's policy, and what it shows. Chromium's own push service is on the Internet, so
// that the push comes from its debugger.
import assert from "node:assert/strict";
import { Person, until } from "./harness.mjs";

export async function pushes() {
  const dora = await (await Person.open("Dora", 0)).register();
  const { page, context } = dora;
  await context.grantPermissions(["notifications"], { origin: dora.url });
  await dora.signIn();
  page.expected = /Push API in incognito mode|TrustedTypePolicy named 'evil'/;
  const cdp = await context.newCDPSession(page);
  let registrationId;
  cdp.on("ServiceWorker.workerRegistrationUpdated", ({ registrations }) => { registrationId = registrations.at(-1)?.registrationId; });
  await cdp.send("ServiceWorker.enable");

  await page.getByRole("button", { name: "Settings" }).click();
  await page.getByRole("heading", { name: "Notifications" }).waitFor();
  await page.getByLabel("Notify me of").selectOption("mentions");
  await until(async () => (await dora.rest("GET", "/push/preferences")).level === "mentions", "the level is stored");
  await page.getByLabel("Notify me on this device").click();
  const worker = () => page.evaluate(async () => (await navigator.serviceWorker.getRegistration("/"))?.active?.state);
  await until(async () => (await worker()) === "activated" && registrationId, "the service worker is there");

  const push = { v: 1, type: "message", conversationId: "c1", title: "Ben", count: 2, unread: { messages: 2, mentions: 0 } };
  for (const more of [{ body: "Hello" }, {}]) {
    const shown = () => page.evaluate(async () => (await (await navigator.serviceWorker.getRegistration("/")).getNotifications()).map((n) => [n.title, n.body, n.tag]));
    const want = ["Ben", more.body ?? "2 new messages", "c1"];
    // Chromium may drop a push of its debugger while a worker starts.
    await until(async () => {
      await cdp.send("ServiceWorker.deliverPushMessage", { origin: dora.url, registrationId, data: JSON.stringify({ ...push, ...more }) });
      await new Promise((r) => setTimeout(r, 500));
      return JSON.stringify(await shown()) === JSON.stringify([want]);
    }, "the notification is shown, and replaced by the next one", 120);
  }
  const other = await page.evaluate(() => {
    try {
      return String(trustedTypes.createPolicy("evil", { createScriptURL: (s) => s }));
    } catch (err) {
      return err.name;
    }
  });
  assert.equal(other, "TypeError");
  await context.close();
}
