/** Orders of events that are rare in use: a socket that is lost while something waits, storage that hangs or is full. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Session, type DraftStore, type Parley, type ParleyOptions } from "../src/index.js";
import { create, last, pass, sent, server, settle } from "./harness.js";

async function open(options: Partial<ParleyOptions> = {}): Promise<Parley> {
  const chat = create(options).connect();
  await settle();
  return chat;
}

test("a socket that is lost while a send waits for a busy server: it is sent over the next one", async () => {
  const chat = await open();
  const room = chat.open("c");
  await settle();
  server.errors.set("message:send", [{ code: "unavailable", status: 503, detail: "later", retryAfterSeconds: 5 }]);
  const all = [room.send("one"), room.send("two")];
  await settle();
  await pass(1_000);
  last().end(1006);
  await settle();
  await pass(1_000);
  assert.equal(chat.status.value.state, "online");
  await Promise.all(all);
  assert.deepEqual(server.messages.map((m) => m.content), ["one", "two"]);
});

test("a storage of drafts that never answers does not hold up what is sent", async () => {
  const never = new Promise<never>(() => {});
  const store: DraftStore = { all: () => never, put: () => never, delete: () => never };
  const chat = await open({ outbox: store });
  const sending = chat.open("c").send("now");
  await settle();
  await pass(5_000);
  assert.equal((await sending).content, "now");
});

test("drafts of a slow storage are sent once they are there", async () => {
  let found: (drafts: any[]) => void = () => {};
  const store: DraftStore = { all: () => new Promise((r) => (found = r)), put: async () => {}, delete: async () => {} };
  const chat = await open({ outbox: store });
  chat.open("c");
  await pass(5_000);
  found([{ clientMessageId: "old", conversationId: "c", content: "old", createdAt: "", state: "queued" }]);
  await settle();
  assert.deepEqual(server.messages.map((m) => m.content), ["old"]);
});

test("a read that is not confirmed is sent again after its answer, and not before a limit is over", async () => {
  server.say("m1");
  const chat = await open();
  const room = chat.open("c");
  await settle();
  server.swallow.set("message:read", 1);
  room.markRead();
  await settle();
  await pass(5_000);
  assert.equal(sent("message:read").length, 1, "while the answer may still come");
  server.errors.set("message:read", [{ code: "rate_limited", status: 429, detail: "too many", retryAfterSeconds: 4 }]);
  await pass(5_000);
  await pass(600);
  assert.equal(sent("message:read").length, 2);
  await pass(3_000);
  assert.equal(sent("message:read").length, 2, "while the limit lasts");
  await pass(1_600);
  assert.equal(sent("message:read").length, 3);
  assert.equal(room.value.info?.lastReadSeq, 1);
});

test("presence that was refused is asked for again", async () => {
  const chat = await open();
  server.errors.set("presence:subscribe", [{ code: "rate_limited", status: 429, detail: "too many", retryAfterSeconds: 2 }]);
  const presence = chat.presence("you");
  presence.subscribe(() => {});
  await pass(100);
  assert.equal(presence.value.status, "offline");
  await pass(10_000);
  assert.equal(presence.value.status, "online");
  assert.equal(sent("presence:subscribe").length, 2);
});

test("a session lives on in memory if the storage is full", async () => {
  const full = { getItem: () => null, setItem: () => { throw new DOMException("full", "QuotaExceededError"); }, removeItem: () => {} };
  const session = new Session({ url: "http://parley.test", fetch: server.fetch, storage: full });
  await session.login({ username: "me", password: "" });
  assert.equal(session.user?.id, "me");
  assert.ok(await session.token({ refresh: false }));
});

test("a page that may not use storage has a session in memory", async () => {
  const before = Object.getOwnPropertyDescriptor(globalThis, "localStorage");
  Object.defineProperty(globalThis, "localStorage", { configurable: true, get: () => { throw new DOMException("denied", "SecurityError"); } });
  try {
    const session = new Session({ url: "http://parley.test", fetch: server.fetch });
    await session.login({ username: "me", password: "" });
    assert.equal(session.user?.id, "me");
  } finally {
    if (before) Object.defineProperty(globalThis, "localStorage", before);
    else delete (globalThis as { localStorage?: unknown }).localStorage;
  }
});
