// Every feature of the page, by two people and a third one beside them.
import assert from "node:assert/strict";
import { agree, password, until } from "./harness.mjs";

/** Signing up and in, and what is wrong with either. */
export async function accounts({ anna, ben }) {
  const { page } = anna;
  const paint = async (url) => {
    await page.goto(url);
    return Math.round(await until(() => page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0]?.startTime), "something is painted"));
  };
  page.expected = /favicon/;
  const line = await paint(`${anna.url}/api/health/ready`);
  console.log(`  first paint after ${await paint(anna.url)} ms, that of a line of text after ${line} ms`);
  await page.getByRole("button", { name: "Create an account" }).click();
  await page.getByLabel("Your name").fill("Anna");
  await page.getByLabel("Username").fill("a b");
  await page.getByLabel("Password").fill(password);
  page.expected = /status of 4(00|01)/;
  await page.getByRole("button", { name: "Create account" }).click();
  await page.getByRole("alert").getByText("username").waitFor();
  await page.getByLabel("Username").fill(anna.username);
  await page.getByRole("button", { name: "Create account" }).click();
  await page.getByRole("heading", { name: "Chats" }).waitFor();
  await page.getByText("No conversations yet.").waitFor();
  await anna.rest("GET", "/users/me");

  await ben.register();
  ben.page.expected = /status of 401/;
  await ben.page.goto(ben.url);
  await ben.page.getByLabel("Username").fill(ben.username);
  await ben.page.getByLabel("Password").fill("wrong horse battery");
  await ben.page.getByRole("button", { name: "Sign in" }).click();
  await until(async () => (await ben.page.getByRole("alert").textContent()) !== "", "the wrong password is refused");
  await ben.signIn();
  page.expected = ben.page.expected = undefined;
}

/** A direct conversation: everything that can be done with a message. */
export async function conversation({ anna, ben }) {
  await anna.page.getByRole("button", { name: "New chat" }).first().click();
  await anna.page.getByLabel("Find people by name").fill(ben.username);
  await anna.page.getByRole("button", { name: new RegExp("@" + ben.username) }).click();
  await anna.page.getByRole("button", { name: "Start chat" }).click();
  await until(() => anna.page.url().includes("#/c/"), "the conversation is shown");
  anna.direct = ben.direct = anna.page.url().split("#/c/")[1];
  await anna.page.getByText("Say hello").waitFor();
  await anna.send("Hello <b>Ben</b> & https://example.com/a?b=1&c=2.");
  assert.equal(await anna.page.locator(".bubble b").count(), 0);
  assert.equal(await anna.row("Hello").locator("a").getAttribute("href"), "https://example.com/a?b=1&c=2");

  await ben.listed("Anna").locator(".badge").waitFor();
  await until(async () => (await ben.page.title()) === "(1) Parley", "the title counts");
  await ben.listed("Anna").click();
  await ben.sees("Hello");
  await anna.row("Hello").locator(".tick.read").waitFor();
  await until(async () => (await ben.page.title()) === "Parley", "it is read");
  await anna.page.locator(".room .bar").getByText("online").waitFor();
  await ben.text.pressSequentially("Hi");
  await anna.page.locator(".room .typing").getByText("Ben is typing").waitFor();
  await ben.text.press("Shift+Enter");
  await ben.text.pressSequentially("Anna");
  await ben.text.press("Enter");
  await anna.sees("Hi\nAnna");

  await anna.tool("Anna", "Reply");
  await anna.send("A reply");
  await ben.row("A reply").locator(".quote").click();
  await ben.page.locator(".message.found").waitFor();
  await anna.text.press("ArrowUp");
  await until(async () => (await anna.text.inputValue()) === "A reply", "the text is there to edit");
  await anna.send("A better reply");
  await ben.row("A better reply").getByText("Edited").waitFor();
  await ben.tool("A better reply", "React with 🎉");
  await anna.row("A better reply").locator(".reaction").click();
  await until(async () => (await ben.row("A better reply").locator(".reaction").textContent()) === "🎉2", "both reacted");
  await ben.row("A better reply").locator(".reaction").click();
  await until(async () => (await anna.row("A better reply").locator(".reaction").textContent()) === "🎉1", "one took it back");
  await anna.send("To be deleted");
  await ben.sees("To be deleted");
  await anna.tool("To be deleted", "Delete");
  await anna.page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
  await ben.page.locator(".message .deleted").waitFor();
  await agree([anna, ben], anna.direct);
}

/** A group from its beginning to its end. */
export async function groups({ anna, ben, cleo }) {
  const { page } = anna;
  await page.getByRole("button", { name: "New chat" }).first().click();
  for (const who of [ben, cleo]) {
    await page.getByLabel("Find people by name").fill(who.username);
    await page.getByRole("button", { name: new RegExp("@" + who.username) }).click();
  }
  await page.getByLabel("Name of the group").fill("Trip");
  await page.getByRole("button", { name: "Create group" }).click();
  await until(() => !page.url().includes(anna.direct), "the group is shown");
  anna.group = ben.group = page.url().split("#/c/")[1];
  await anna.send("Who is in?");
  await ben.listed("Trip").locator(".badge").waitFor();
  await ben.show(anna.group);
  await ben.sees("Who is in?");
  await anna.row("Who is in?").locator(".tick.read").waitFor();

  let box = await anna.details();
  await box.getByLabel("Name of the group").fill("Trip north");
  await box.getByRole("button", { name: "Rename" }).click();
  await ben.listed("Trip north").waitFor();
  await box.getByLabel("Role of Cleo").selectOption("admin");
  await until(async () => (await anna.rest("GET", `/conversations/${anna.group}/members`)).data.find((m) => m.user.id === cleo.id)?.role === "admin", "Cleo is an admin");
  await box.getByRole("button", { name: "Remove Ben" }).click();
  await ben.page.getByText("You are no longer in this conversation.").waitFor();
  await box.getByLabel("Add people").fill(ben.username);
  await box.getByRole("button", { name: new RegExp("@" + ben.username) }).click();
  await box.getByRole("button", { name: "Remove Ben" }).waitFor();
  await anna.closeDialog();
  await ben.listed("Trip north").waitFor();
  await ben.show(anna.direct);
  await ben.show(anna.group);
  await anna.send("Welcome back");
  await ben.sees("Welcome back");
  await agree([anna, ben], anna.group);

  // A group that one leaves, and its owner deletes.
  const brief = await anna.rest("POST", "/conversations", { type: "group", name: "Brief", memberIds: [ben.id, cleo.id] });
  await ben.listed("Brief").click();
  await ben.details();
  await ben.page.getByRole("button", { name: "Leave group" }).click();
  await ben.page.getByRole("dialog").last().getByRole("button", { name: "Leave" }).click();
  await ben.listed("Brief").waitFor({ state: "detached" });
  await anna.show(brief.id);
  await anna.details();
  await page.getByRole("button", { name: "Delete group" }).click();
  await page.getByRole("dialog").last().getByRole("button", { name: "Delete" }).click();
  await anna.listed("Brief").waitFor({ state: "detached" });
  await anna.show(anna.direct);
  await ben.show(anna.direct);
}

/** Muted, pinned, archived; filters and the search of the list. */
export async function ownState({ anna, ben, cleo }) {
  const { page } = anna;
  const box = await anna.details();
  await box.getByRole("button", { name: "Mute" }).click();
  await box.getByRole("button", { name: "Muted" }).waitFor();
  await box.getByRole("button", { name: "Pin to top" }).click();
  await box.getByRole("button", { name: "Pinned" }).waitFor();
  await anna.closeDialog();
  await until(async () => (await page.locator(".rows .row-title").first().textContent()) === "Ben", "the pinned one is first");
  await until(async () => (await anna.rest("GET", `/conversations/${anna.direct}`)).mutedUntil === "forever", "it is muted");
  const again = await anna.details();
  await again.getByRole("button", { name: "Muted" }).click();
  await again.getByRole("button", { name: "Mute", exact: true }).waitFor();
  await again.getByRole("button", { name: "Pinned" }).click();
  await again.getByRole("button", { name: "Pin to top" }).waitFor();
  await again.getByRole("button", { name: "Archive" }).click();
  await anna.listed("Ben").waitFor({ state: "detached" });
  await anna.closeDialog();
  await page.getByRole("button", { name: "Archived" }).click();
  await anna.listed("Ben").waitFor();
  await anna.rest("PATCH", `/conversations/${anna.direct}/me`, { archived: false });
  await page.getByRole("button", { name: "All", exact: true }).click();
  await anna.listed("Ben").waitFor();
  await page.getByRole("button", { name: "Groups" }).click();
  await anna.listed("Ben").waitFor({ state: "detached" });
  await page.getByRole("button", { name: "All", exact: true }).click();
  await page.getByLabel("Find a conversation").fill("north");
  await anna.listed("Ben").waitFor({ state: "detached" });
  assert.equal(await page.locator(".rows a").count(), 1);
  await page.getByLabel("Find a conversation").fill("");

  // What is unread there is shown, and gone once it was read on another device.
  const m = await cleo.rest("POST", `/conversations/${anna.group}/messages`, { content: "On the phone", clientMessageId: "phone" });
  await anna.listed("Trip").locator(".badge").getByText("1").waitFor();
  await page.getByRole("button", { name: "Unread" }).click();
  assert.equal(await page.locator(".rows a").count(), 2); // with the one that is shown
  await anna.rest("POST", `/conversations/${anna.group}/read`, { upToMessageId: m.id });
  await anna.listed("Trip").waitFor({ state: "detached" });
  await page.getByRole("button", { name: "All", exact: true }).click();
}

// A picture of two by two pixels.
const png = Buffer.from("iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAFUlEQVR4nGPUS5vMwMDAxMDAwMDAAAAPpwFd9lYDZwAAAABJRU5ErkJggg==", "base64");

/** Names in a message: suggested, marked, counted. And what is marked as unread. */
export async function mentions({ anna, ben, cleo }) {
  const { page } = anna;
  await anna.show(anna.group);
  await ben.show(ben.direct);
  await anna.text.pressSequentially("Lunch, @be");
  const list = page.getByRole("listbox");
  await list.getByRole("option", { name: "Ben" }).waitFor();
  assert.equal(await list.getByRole("option").count(), 1);
  await anna.text.press("Enter");
  assert.equal(await anna.text.inputValue(), "Lunch, @Ben ");
  await anna.text.pressSequentially("and @");
  await until(async () => (await list.getByRole("option").count()) === 3, "two people and everybody");
  await anna.text.press("ArrowUp");
  await anna.text.press("Tab");
  await anna.text.pressSequentially("else? a@cleo.example");
  await list.waitFor({ state: "hidden" });
  await anna.text.press("Enter");
  await ben.listed("Trip").locator(".badge").getByText("@").waitFor();
  const sent = (await anna.rest("GET", `/conversations/${anna.group}/messages?limit=1`)).data[0];
  assert.deepEqual(sent.mentions, { userIds: [ben.id], all: true });
  await ben.show(ben.group);
  await until(async () => (await ben.row("Lunch").locator(".mention.me").allTextContents()).join() === "@Ben,@everybody", "both are marked");
  // An edit that leaves a name out takes the mention back.
  await anna.tool("Lunch", "Edit");
  await anna.send("Lunch, @Ben?");
  await until(async () => (await anna.rest("GET", `/messages/${sent.id}`)).mentions?.all !== true, "everybody is mentioned no more");
  assert.deepEqual((await anna.rest("GET", `/messages/${sent.id}`)).mentions.userIds, [ben.id]);

  await cleo.rest("POST", `/conversations/${anna.group}/messages`, { content: "Mark me", clientMessageId: "mark" });
  await cleo.rest("POST", `/conversations/${anna.group}/messages`, { content: "And me", clientMessageId: "mark 2" });
  await anna.sees("And me");
  await until(async () => (await anna.rest("GET", `/conversations/${anna.group}`)).unreadCount === 0, "it is read");
  await anna.tool("Mark me", "Mark as unread");
  await anna.listed("Trip").locator(".badge").getByText("2").waitFor();
  await page.locator(".day.new").waitFor();
  await anna.show(anna.direct);
  await anna.listed("Trip").locator(".badge").getByText("2").waitFor();
  await anna.show(anna.group);
  await anna.listed("Trip").locator(".badge").waitFor({ state: "detached" });
  await until(async () => (await anna.rest("GET", `/conversations/${anna.group}`)).unreadCount === 0, "it is read again");
  await anna.show(anna.direct);
  await ben.show(ben.direct);
}

/** Friends and blocks. */
export async function relations({ anna, ben }) {
  let box = await anna.details();
  await box.getByRole("button", { name: "Add to friends" }).click();
  await box.getByRole("button", { name: "Take the request back" }).waitFor();
  await anna.closeDialog();
  await ben.page.getByText("Anna wants to be your friend").waitFor();
  await ben.page.getByRole("button", { name: "New chat" }).first().click();
  await ben.page.getByRole("button", { name: "Accept Anna" }).click();
  await ben.page.getByRole("list", { name: "Friends" }).getByText("Anna", { exact: true }).waitFor();
  await ben.closeDialog();
  await anna.page.getByText("Ben is your friend now").waitFor();
  box = await anna.details();
  await box.getByRole("button", { name: "Remove from friends" }).waitFor();
  await box.getByRole("button", { name: "Block Ben" }).click();
  await box.getByRole("button", { name: "Unblock Ben" }).waitFor();
  await anna.closeDialog();
  await ben.send("Do you hear me?");
  await ben.page.locator(".message.failed").waitFor();
  await ben.page.locator(".message.failed").getByRole("button", { name: "Discard" }).click();
  await anna.page.getByRole("button", { name: "Settings" }).click();
  await anna.page.getByRole("list", { name: "Blocked people" }).getByRole("button", { name: "Unblock Ben" }).click();
  await anna.page.getByRole("list", { name: "Blocked people" }).getByText("Nobody.").waitFor();
  await anna.closeDialog();
  await ben.send("And now?");
  await anna.sees("And now?");
  await agree([anna, ben], anna.direct);
}

/** A picture and a text, from one browser to the other through the storage. */
export async function attachments({ anna, ben }) {
  await anna.page.locator("input[type=file]").setInputFiles([
    { name: "pixel.png", mimeType: "image/png", buffer: png }, { name: "notes.txt", mimeType: "text/plain", buffer: Buffer.from("Some notes") },
  ]);
  await until(async () => (await anna.page.locator(".picked li").allTextContents()).join() === "pixel.png,notes.txt", "both are uploaded");
  await anna.send("Two files");
  const row = ben.row("Two files");
  await row.locator(".picture img").waitFor();
  await until(() => row.locator(".picture img").evaluate((i) => i.complete && i.naturalWidth === 2), "the picture is shown");
  const [download] = await Promise.all([ben.page.waitForEvent("download"), row.getByRole("button", { name: "notes.txt" }).click()]);
  assert.equal(download.suggestedFilename(), "notes.txt");
  await ben.page.bringToFront();
}

/** What people know of other pages: text that is kept, code, emoji, other scripts, more reactions, profiles, files that are pasted and dropped. */
export async function habits({ anna, ben, cleo }) {
  await Promise.all([anna.show(anna.direct), ben.show(anna.direct)]);
  await anna.text.fill("not sent yet");
  await anna.text.dispatchEvent("input");
  await anna.show(anna.group);
  await until(async () => (await anna.text.inputValue()) === "", "each conversation has a text of its own");
  await anna.page.reload();
  await anna.show(anna.direct);
  await until(async () => (await anna.text.inputValue()) === "not sent yet", "the text outlives a reload");
  await anna.text.fill("");

  await anna.send("Run `make test`, or\n```sh\nmake <b>run</b>\n```\nSee https://example.com/a_(b).");
  const code = ben.row("Run make test");
  await code.waitFor();
  assert.deepEqual(await code.locator("code").allTextContents(), ["make test", "make <b>run</b>"]);
  assert.equal(await code.locator("a").getAttribute("href"), "https://example.com/a_(b");
  await anna.rest("DELETE", `/messages/${await code.getAttribute("data-id")}`); // `agree` compares texts as they were written
  await anna.send("🎉👍🏽");
  await ben.row("🎉👍").locator(".large").waitFor();
  await anna.send("مرحبا.");
  await ben.sees("مرحبا");
  assert.equal(await ben.row("مرحبا").locator("p").evaluate((p) => getComputedStyle(p).direction), "rtl");

  await ben.row("مرحبا").focus();
  await ben.page.getByRole("button", { name: "More reactions" }).press("Enter");
  await ben.page.getByRole("dialog").getByRole("button", { name: "React with 🚀" }).press("Enter");
  await until(async () => (await anna.row("مرحبا").locator(".reaction").allTextContents()).join() === "🚀1", "the reaction is there");

  const carry = ({ data, type, name }) => {
    const files = new DataTransfer();
    files.items.add(new File([data], name, { type: "text/plain" }));
    const on = (selector, event) => document.querySelector(selector).dispatchEvent(event);
    if (type === "paste") return on(".composer textarea", new ClipboardEvent("paste", { clipboardData: files, bubbles: true, cancelable: true }));
    return on(type === "drop" ? ".log" : ".rows", new DragEvent("drop", { dataTransfer: files, bubbles: true, cancelable: true }));
  };
  for (const type of ["paste", "drop", "beside"]) {
    assert.equal(await anna.page.evaluate(carry, { data: type, type, name: `${type}.txt` }), false, `${type} is handled`);
  }
  await until(async () => (await anna.page.locator(".picked li").allTextContents()).join() === "paste.txt,drop.txt", "both are uploaded");
  await anna.send("Two more files");
  await ben.row("Two more files").locator(".file").nth(1).waitFor();
  await agree([anna, ben], anna.direct);

  await anna.show(anna.group);
  await cleo.rest("POST", `/conversations/${anna.group}/messages`, { content: "Who am I?", clientMessageId: "profile" });
  await anna.sees("Who am I?");
  await anna.page.getByRole("button", { name: "Profile of Cleo" }).last().click();
  const box = anna.page.getByRole("dialog");
  await box.getByText("@" + cleo.username).waitFor();
  await box.getByRole("button", { name: "Block Cleo" }).waitFor();
  await box.getByRole("button", { name: "Write a message" }).click();
  await anna.page.locator(".room .bar .title", { hasText: "Cleo" }).waitFor();
  await anna.show(anna.direct);
}

/** Name, privacy, password, sessions, and the way out. */
export async function settings({ anna, ben }) {
  const { page } = anna;
  await page.getByRole("button", { name: "Settings" }).click();
  const box = page.getByRole("dialog");
  await box.getByLabel("Your name").fill("Anna-Maria");
  await box.getByRole("button", { name: "Save" }).click();
  await ben.listed("Anna-Maria").waitFor();
  await box.getByLabel("Who sees when you are online").selectOption("nobody");
  await ben.page.locator(".room .bar .dot").waitFor({ state: "detached" });
  await box.getByLabel("Show others what you have read").uncheck();
  await until(async () => (await anna.rest("GET", "/users/me/privacy")).readReceiptsEnabled === false, "receipts are off");
  // One click ends all of them, those that began after the list was drawn too.
  await box.getByRole("button", { name: "Sign out everywhere else" }).waitFor();
  const others = async () => {
    anna.token = undefined; // each look is a session of its own
    return (await anna.rest("GET", "/auth/sessions")).data.filter((x) => !x.current).length;
  };
  for (let i = 0; i < 12; i++) await others();
  assert.ok((await others()) > 12);
  await box.getByRole("button", { name: "Sign out everywhere else" }).click();
  await until(async () => (await box.getByRole("list", { name: "Sessions" }).getByRole("listitem").count()) === 1, "this device is the only one");
  assert.equal(await others(), 1); // the page
  anna.token = undefined; // of a session that is over
  await box.getByLabel("Current password").fill(password);
  anna.secret = "another horse battery";
  await box.getByLabel("New password").fill(anna.secret);
  await box.getByRole("button", { name: "Change password" }).click();
  await page.getByText("The password was changed.").waitFor();
  // A session that is ended on another device is over here.
  await ben.rest("GET", "/users/me");
  ben.page.expected = /status of 401/;
  const { data } = await ben.rest("GET", "/auth/sessions");
  for (const s of data.filter((x) => !x.current)) await ben.rest("DELETE", `/auth/sessions/${s.id}`);
  await ben.page.getByText("You were signed out.").waitFor();
  await box.getByRole("button", { name: "Log out" }).click();
  await page.getByRole("heading", { name: "Sign in to Parley" }).waitFor();
  assert.equal(await page.evaluate(() => localStorage.getItem("parley.session")), null);
}
