// Pictures of each view, which are held against axe.
import path from "node:path";
import { browser, fault, long, patience, Person, picture, pictures, until, watch } from "./harness.mjs";

export async function views({ anna, ben, cleo }) {
  const { page } = anna;
  await anna.show(anna.group);
  await cleo.rest("POST", `/conversations/${anna.group}/messages`, { content: "I take the train at nine. Who sits with me?", clientMessageId: "train" });
  await ben.show(anna.group);
  await ben.send("I do!");
  await anna.sees("I do!");
  await page.mouse.move(5, 5);
  await picture(page, "conversation");
  const row = anna.row("I do!");
  await row.hover();
  await picture(page, "tools", { sizes: [1440] });
  await row.getByRole("button", { name: "More reactions" }).click();
  await picture(page, "reactions", { sizes: [360] });
  await anna.closeDialog();
  await page.getByRole("button", { name: "Profile of Ben" }).last().click();
  await page.getByRole("dialog").getByRole("button", { name: "Write a message" }).waitFor();
  await picture(page, "profile", { sizes: [360] });
  await anna.closeDialog();
  await page.mouse.move(5, 5);
  await anna.details();
  await page.getByRole("dialog").getByText("3 members").waitFor();
  await picture(page, "details");
  await anna.closeDialog();
  await page.getByRole("button", { name: "Settings" }).click();
  await page.getByRole("dialog").getByText("This device", { exact: true }).waitFor();
  await picture(page, "settings");
  await anna.closeDialog();
  await page.getByRole("button", { name: "New chat" }).first().click();
  await page.getByLabel("Find people by name").fill("cl");
  await until(() => page.getByRole("dialog").locator(".person").count(), "somebody is found");
  await picture(page, "new-chat");
  await anna.closeDialog();
  await page.evaluate(() => { location.hash = "#/"; });
  await page.getByText("Choose a conversation").waitFor();
  await picture(page, "list");
  await anna.show(anna.direct);
  await ben.show(anna.direct);

  const stranger = await Person.open("Stranger", 0);
  await stranger.page.goto(stranger.url);
  await picture(stranger.page, "sign-in");
  await stranger.context.close();
}

/** The picture of README's first screen: what `make run` has to try. */
export async function seeded() {
  const anna = await Person.open("anna", 0, { viewport: { width: 1200, height: 720 } });
  anna.username = "anna";
  await anna.signIn();
  await anna.listed("Weekend hike").click();
  await anna.sees("a place to swim");
  await until(async () => (await anna.page.locator(".rows .badge").count()) === 2, "what is unread is shown");
  await anna.page.waitForTimeout(300); // for presence, of which nothing else reports
  await anna.page.screenshot({ path: process.env.PARLEY_TEST_README_PICTURE || path.join(pictures, "readme.png") });
  await anna.context.close();
}

/** The documents of the API: one authorises once, and requests from the page go to its own origin. */
export async function documents({ anna }) {
  const page = watch(await anna.context.newPage(), "the documents");
  page.expected = /status of 401/;
  await page.goto(`${anna.url}/api/docs`);
  const status = page.locator(".live-responses-table .response-col_status", { hasText: /\d{3}/ }).first();
  const execute = async () => {
    await page.getByRole("button", { name: "Authorize" }).first().click();
    const box = page.locator(".modal-ux", { hasText: "accessToken" });
    for (const over of await box.getByRole("button", { name: "Logout" }).all()) await over.click();
    anna.token = undefined; // for one that is fresh
    await anna.rest("GET", "/users/me");
    await box.locator("input").first().fill(anna.token);
    await box.getByRole("button", { name: "Apply credentials" }).first().click();
    await box.getByRole("button", { name: "Close" }).last().click();
    await page.reload();
    const operation = page.locator(".opblock", { has: page.locator('[data-path="/api/users/me"]') }).filter({ hasText: "GET" }).first();
    await operation.locator(".opblock-summary-control").click();
    await operation.getByRole("button", { name: "Execute" }).click();
    await status.waitFor();
    return (await status.textContent()).includes("200");
  };
  // The token lives for ten seconds, in which a slow machine does not load the page again.
  await until(execute, "a request of the page is authorised", 120);
  page.expected = undefined;
  await page.locator('a[href="/api/docs/frames"]').first().waitFor();
  await page.goto(`${anna.url}/api/docs/frames`);
  await page.getByRole("heading", { level: 1 }).waitFor();
  await picture(page, "frames", { sizes: [360] });
  await page.close();
  await anna.page.bringToFront();
}

/** The page /demo of `make run`: two people, and each of its faults. */
export async function demo() {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, locale: "en-GB" });
  context.setDefaultTimeout(patience);
  const page = watch(await context.newPage(), "the demo");
  await page.goto(process.env.PARLEY_TEST_DEMO);
  const equals = (n) => until(async () => {
    const text = (await page.locator(".verdict.equal").count()) ? await page.locator(".verdict").textContent() : "";
    const at = Number(/message (\d+)/.exec(text)?.[1] ?? -1);
    return at >= n && { at };
  }, `both panes equal ${n} messages`, 60);
  let { at } = await equals(0);
  const faults = [["Cut the network", "Give the network back"], ["Kill the pod"]];
  if (long) faults.push(["Stop Redis for 10 s"]);
  for (const [name, mend] of faults) {
    await page.getByRole("button", { name }).first().click();
    if (name === "Kill the pod") await fault("revive 0");
    await page.getByRole("button", { name: "Both send 10 messages" }).click();
    if (mend) {
      await page.getByText("10 not sent yet").waitFor();
      await picture(page, "demo-cut", { sizes: [1440] });
      await page.getByRole("button", { name: mend }).click();
    }
    ({ at } = await equals(at + 20));
  }
  if (long) await page.getByRole("button", { name: "Stop Redis for 10 s" }).waitFor({ timeout: 20_000 });
  await picture(page, "demo", { sizes: long ? [360, 1440] : [360] });
  await context.close();
}
