import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { token } from "../../testing/fake.js";
import { backOff, ParleyError, type DraftStore, type Parley, type ParleyOptions, type Status } from "../src/index.js";
import { create, last, pass, sent, server, settle } from "./harness.js";

const open = (options: Partial<ParleyOptions> = {}): Parley => create(options).connect();
const state = (c: Parley): Status["state"] => c.status.value.state;

test("connects, reads the list, and shows what comes", async () => {
  server.say("old");
  const chat = open();
  await settle();
  assert.equal(state(chat), "online");
  assert.equal(chat.synced.value, true);
  assert.equal(chat.conversations.value[0]?.unreadCount, 1);
  const room = chat.open("c");
  await settle();
  server.say("new");
  await settle();
  assert.deepEqual(room.value.messages.map((m) => m.content), ["old", "new"]);
  assert.deepEqual(chat.unread.value, { messages: 2, mentions: 0, conversations: 1 });
});

test("a member's new name is everywhere, and stays after the next message", async () => {
  server.say("old");
  const chat = open();
  await settle();
  const room = chat.open("c");
  await settle();
  const other = room.value.info!.members.find((m) => m.user.id !== "me")!.user;
  server.broadcast("user:updated", { user: { ...other, displayName: "Somebody New" } });
  await settle();
  const names = () => [room.value.info, chat.conversations.value[0]].map((c) => c!.members.find((m) => m.user.id === other.id)!.user.displayName);
  assert.deepEqual(names(), ["Somebody New", "Somebody New"]);
  server.say("new");
  await settle();
  assert.deepEqual(names(), ["Somebody New", "Somebody New"]);
  assert.equal(chat.user(other.id).value?.displayName, "Somebody New");
});

test("a conversation that begins with a frame counts mentions", async () => {
  const chat = open();
  await settle();
  server.broadcast("conversation:created", { ...server.conversation(), id: "n", lastSeq: 0, revision: 1, lastMessage: null, lastReadSeq: undefined, unreadCount: undefined, mentionCount: undefined });
  await settle();
  const m = { ...server.say("x", { deliver: false }), id: "m1", conversationId: "n", seq: 1, revision: 2, senderId: "you", mentions: { userIds: ["me"], all: false } };
  server.broadcast("message:new", m);
  await settle();
  assert.equal(chat.conversations.value.find((c) => c.id === "n")?.mentionCount, 1);
  assert.equal(chat.unread.value.mentions, 1);
});

test("what was marked as unread is not any more once it is read", async () => {
  for (const text of ["one", "two"]) server.say(text);
  const chat = open();
  const room = chat.open("c");
  await settle();
  room.markRead();
  await pass(2_000);
  server.broadcast("state:updated", { conversationId: "c", stateRevision: 9, lastReadSeq: 1, unreadCount: 1, mentionCount: 0, markedUnread: true, notifications: null, mutedUntil: null, archivedAt: null, pinnedAt: null, hidden: false });
  await settle();
  assert.equal(room.value.info?.markedUnread, true);
  assert.equal(chat.unread.value.messages, 1);
  room.markRead();
  await pass(2_000);
  assert.equal(room.value.info?.markedUnread, false);
  assert.deepEqual(chat.unread.value, { messages: 0, mentions: 0, conversations: 0 });
});

test("the bound of the wait doubles from half a second to half a minute", () => {
  assert.deepEqual([0, 1, 2, 5, 6, 7, 100].map(backOff), [500, 1000, 2000, 16_000, 30_000, 30_000, 30_000]);
});

test("the wait is a random part of the bound, and starts anew only after a minute of life", async () => {
  mock.method(Math, "random", () => 0.999);
  const chat = open();
  await settle();
  const waits: number[] = [];
  for (let i = 0; i < 4; i++) {
    last().end(1006);
    const s = chat.status.value;
    assert.equal(s.state, "waiting");
    waits.push(Math.round((s as { retryAt: number }).retryAt - Date.now()));
    await pass(waits[i]! + 1);
    assert.equal(state(chat), "online");
    await pass(i === 2 ? 60_000 : 5_000);
    if (i === 2) server.broadcast("ping", undefined);
  }
  assert.deepEqual(waits.map((w) => Math.round(w / 100) * 100), [500, 1000, 2000, 500]);
});

test("a socket that is silent for two heartbeats is given up", async () => {
  const chat = open();
  await settle();
  await pass(49_000);
  assert.equal(server.sockets.length, 1);
  assert.equal(state(chat), "online");
  await pass(1_100);
  assert.notEqual(state(chat), "online");
  await pass(600);
  assert.equal(server.sockets.length, 2);
  assert.equal(state(chat), "online");
});

test("a network that comes back is tried at once", async () => {
  const target = new EventTarget();
  const g = globalThis as Record<string, unknown>;
  const before = [g.addEventListener, g.removeEventListener];
  g.addEventListener = target.addEventListener.bind(target);
  g.removeEventListener = target.removeEventListener.bind(target);
  mock.method(Math, "random", () => 0.999);
  const chat = open();
  await settle();
  for (let i = 0; i < 5; i++) {
    last().end(1006);
    if (i < 4) await pass(backOff(i));
  }
  assert.equal(state(chat), "waiting");
  target.dispatchEvent(new Event("online"));
  await settle();
  assert.equal(state(chat), "online");
  chat.close();
  [g.addEventListener, g.removeEventListener] = before;
});

test("4401: one new token, then it is over", async () => {
  const asked: boolean[] = [];
  server.closeWith = 4401;
  const chat = open({
    token: ({ refresh }) => {
      asked.push(refresh);
      return token("t" + asked.length);
    },
  });
  await settle();
  assert.deepEqual(asked, [false, true]);
  assert.deepEqual(chat.status.value, { state: "stopped", reason: "signed_out" });
  assert.notEqual(server.sockets[0]!.token, server.sockets[1]!.token);
});

for (const [code, reason] of [[4403, "banned"], [4409, "replaced"]] as const) {
  test(`${code} stops it until connect is called`, async () => {
    const chat = open();
    await settle();
    last().end(code);
    await pass(120_000);
    assert.equal((chat.status.value as { reason?: string }).reason, reason);
    assert.equal(server.sockets.length, 1);
    chat.connect();
    await settle();
    assert.equal(state(chat), "online");
  });
}

test("1012 waits up to three seconds, 4429 at least two", async () => {
  mock.method(Math, "random", () => 0.5);
  const chat = open();
  await settle();
  const wait = (): number => (chat.status.value as { retryAt: number }).retryAt - Date.now();
  last().end(1012);
  assert.equal(wait(), 1_500);
  await pass(1_500);
  last().end(4429);
  assert.ok(wait() >= 2_000, String(wait()));
});

test("a handshake that fails for its token gets another", async () => {
  server.refused.add(token("old"));
  const chat = open({ token: ({ refresh }) => token(refresh ? "new" : "old") });
  await settle();
  assert.equal(state(chat), "online");
});

test("many requests at once ask for one token, and a 401 for one new one", async () => {
  let calls = 0;
  const chat = open({
    token: async () => {
      calls++;
      await Promise.resolve();
      return token("t" + calls);
    },
  });
  await settle();
  assert.equal(calls, 1);
  server.refused.add(token("t1"));
  await Promise.all([1, 2, 3, 4].map(() => chat.request("GET", "/users/me")));
  assert.equal(calls, 2);
});

test("nobody is signed in: it stops and says so", async () => {
  const chat = open({ token: () => null });
  await settle();
  assert.equal((chat.status.value as { reason?: string }).reason, "signed_out");
});

test("the token of a socket is renewed before it ends", async () => {
  server.ready = { epoch: "e1", expiresAt: new Date(Date.now() + 600_000).toISOString() };
  const second = token("second");
  open({ token: ({ refresh }) => (refresh ? second : token("first")) });
  await settle();
  for (let i = 0; i < 11; i++) {
    server.broadcast("ping", undefined);
    await pass(48_000);
  }
  assert.equal(sent("auth").length, 0);
  server.broadcast("ping", undefined);
  await pass(20_000);
  assert.deepEqual(sent("auth"), [{ token: second }]);
});

test("a 429 is waited for once, as long as it says", async () => {
  const chat = open();
  await settle();
  server.next.set("/friends", { status: 429, body: { code: "rate_limited", status: 429, detail: "too many", retryAfterSeconds: 3 } });
  const done: ParleyError[] = [];
  void chat.request("GET", "/friends").catch((e) => done.push(e));
  await settle();
  await pass(2_900);
  assert.equal(done.length, 0);
  await pass(400);
  assert.equal(done[0]?.status, 404);
});

test("a lost answer: the same message is sent again under its id, and is one", async () => {
  const chat = open();
  await settle();
  const room = chat.open("c");
  await settle();
  server.swallow.set("message:send", 1);
  mock.method(server, "broadcast", () => {}); // its frame is lost too
  const promise = room.send("once");
  await settle();
  assert.deepEqual(room.value.drafts.map((d) => d.state), ["sending"]);
  mock.restoreAll();
  await pass(10_000);
  await pass(1_300);
  assert.equal((await promise).content, "once");
  const ids = sent("message:send").map((d) => d.clientMessageId);
  assert.equal(ids.length, 2);
  assert.equal(ids[0], ids[1]);
  assert.equal(server.messages.length, 1);
  assert.deepEqual(room.value.messages.map((m) => m.content), ["once"]);
  assert.deepEqual(room.value.drafts, []);
});

test("a frame settles a draft whose answer is lost", async () => {
  const chat = open();
  await settle();
  const room = chat.open("c");
  await settle();
  server.swallow.set("message:send", 1);
  const message = await room.send("once");
  assert.equal(message.seq, 1);
  await pass(30_000);
  assert.equal(sent("message:send").length, 1);
});

test("sends are in order, one at a time, and wait for the connection", async () => {
  const chat = open();
  await settle();
  const room = chat.open("c");
  await settle();
  last().end(1006);
  const all = ["a", "b", "c"].map((t) => room.send(t));
  await settle();
  assert.deepEqual(room.value.drafts.map((d) => d.content), ["a", "b", "c"]);
  assert.equal(sent("message:send").length, 0);
  await pass(1_000);
  await Promise.all(all);
  assert.deepEqual(server.messages.map((m) => m.content), ["a", "b", "c"]);
});

test("a refused draft stays, the next goes on; a limit is waited for", async () => {
  const chat = open();
  await settle();
  const room = chat.open("c");
  await settle();
  server.errors.set("message:send", [
    { code: "cannot_message", status: 403, detail: "blocked" },
    { code: "rate_limited", status: 429, detail: "too many", retryAfterSeconds: 4 },
  ]);
  const bad = room.send("refused");
  const good = room.send("good");
  await assert.rejects(bad, (e: ParleyError) => e.code === "cannot_message");
  await settle();
  await pass(3_900);
  assert.equal(server.messages.length, 0);
  await pass(1_200);
  await good;
  assert.deepEqual(room.value.drafts.map((d) => [d.content, d.state, d.problem?.code]), [["refused", "failed", "cannot_message"]]);
  const again = room.retry(room.value.drafts[0]!.clientMessageId);
  assert.equal((await again).content, "refused");
  assert.deepEqual(room.value.drafts, []);
});

test("drafts outlive a reload, in their order", async () => {
  const kept = new Map<string, any>();
  const store: DraftStore = {
    all: async () => [...kept.values()],
    put: async (_, d) => void kept.set(d.clientMessageId, d),
    delete: async (_, id) => void kept.delete(id),
  };
  const first = open({ outbox: store });
  await settle();
  server.silent = true;
  const room = first.open("c");
  void room.send("one");
  void room.send("two");
  await settle();
  first.close();
  assert.equal(kept.size, 2);
  server.silent = false;
  const second = open({ outbox: store });
  await settle();
  await settle();
  assert.deepEqual(server.messages.map((m) => m.content), ["one", "two"]);
  assert.equal(kept.size, 0);
  assert.deepEqual(second.open("c").value.drafts, []);
});

test("a lost frame is repaired by a sync of that conversation alone", async () => {
  const chat = open();
  await settle();
  const room = chat.open("c");
  await settle();
  const before = sent("sync").length;
  server.say("lost", { deliver: false });
  server.say("seen");
  await settle();
  assert.equal(room.value.messages.length, 0);
  await pass(600);
  assert.deepEqual(room.value.messages.map((m) => m.content), ["lost", "seen"]);
  const asked = sent("sync").slice(before);
  assert.equal(asked.length, 1);
  assert.deepEqual(asked[0], { conversations: { c: 1 }, window: 50, only: true, epoch: "e1" });
});

test("a gap that fills by itself is not asked for", async () => {
  const chat = open();
  await settle();
  const before = sent("sync").length;
  const a = server.say("a", { deliver: false });
  server.say("b");
  server.broadcast("message:new", a);
  await pass(2_000);
  assert.equal(sent("sync").length, before);
  assert.equal(chat.unread.value.messages, 2);
});

test("a server that does not know window and epoch is asked without", async () => {
  server.ready = {};
  const chat = open();
  await settle();
  server.say("lost", { deliver: false });
  last().end(1006);
  await pass(1_000);
  assert.deepEqual(sent("sync").at(-1), { conversations: { c: 1 } });
  assert.equal(chat.unread.value.messages, 1);
  server.ready = { epoch: "e1" };
  last().end(1006);
  await settle();
  server.errors.set("sync", [{ code: "invalid_request", status: 400, detail: "unknown members" }]);
  await pass(1_500);
  assert.deepEqual(sent("sync").at(-1), { conversations: { c: 2 } });
});

test("resync asks for everything within its time", async () => {
  open();
  await settle();
  const before = sent("sync").length;
  server.broadcast("resync", { epoch: "e2", withinSeconds: 8 });
  await pass(8_000);
  assert.equal(sent("sync").length, before + 1);
  assert.equal(sent("sync").at(-1).epoch, "e1");
});

test("many reads become few, and a read while offline is sent later", async () => {
  for (let i = 0; i < 5; i++) server.say("m" + i);
  const chat = open();
  await settle();
  const room = chat.open("c");
  await settle();
  for (const m of room.value.messages) room.markRead(m);
  assert.equal(room.value.info?.unreadCount, 0);
  await pass(600);
  assert.deepEqual(sent("message:read").map((d) => d.messageId), ["m1", "m5"]);
  server.say("m5");
  await settle();
  last().end(1006);
  room.markRead();
  assert.equal(chat.conversations.value[0]?.unreadCount, 1);
  await settle();
  assert.equal(chat.conversations.value[0]?.unreadCount, 0);
  await pass(1_000);
  assert.equal(server.lastRead, 6);
});

test("typing is said at most every three seconds, and ends by itself", async () => {
  const chat = open();
  await settle();
  const room = chat.open("c");
  for (let i = 0; i < 10; i++) {
    room.typing();
    await pass(500);
  }
  assert.equal(sent("typing:start").length, 2);
  await pass(5_000);
  assert.equal(sent("typing:stop").length, 1);
  server.broadcast("typing", { conversationId: "c", userId: "you", active: true });
  await settle();
  assert.deepEqual(room.value.typing, ["you"]);
  await pass(6_000);
  assert.deepEqual(room.value.typing, []);
});

test("presence is subscribed again after a reconnect, 200 on a socket, the rest asked once", async () => {
  const chat = open();
  await settle();
  server.rest = ((rest) => (path: string, q: URLSearchParams) => (path === "/presence" ? { data: [] } : rest.call(server, path, q)))(server.rest);
  for (let i = 0; i < 250; i++) chat.presence("u" + i).subscribe(() => {});
  await pass(100);
  assert.deepEqual(sent("presence:subscribe").map((d) => d.userIds.length), [200]);
  assert.equal(chat.presence("u7").value.status, "online");
  assert.deepEqual(server.requests.filter((r) => r.path.startsWith("/presence")).map((r) => r.path.split(",").length), [50]);
  last().end(1006);
  await pass(1_000);
  await pass(100);
  assert.deepEqual(sent("presence:subscribe").map((d) => d.userIds.length), [200, 200]);
});

test("profiles are read in one request, and known ones not at all", async () => {
  const chat = open();
  await settle();
  for (let i = 0; i < 120; i++) chat.user("u" + i);
  chat.user("you");
  await pass(100);
  await pass(100);
  assert.deepEqual(server.requests.filter((r) => r.path.startsWith("/users?")).map((r) => r.path.split(",").length), [100, 20]);
  assert.equal(chat.user("u119").value?.username, "u119");
});

test("a conversation that is not held is read when a frame names it", async () => {
  const chat = open();
  await settle();
  server.broadcast("message:new", { id: "x1", conversationId: "x", seq: 1, revision: 2, senderId: "you", content: "hi" });
  await settle();
  assert.deepEqual(server.requests.at(-1)?.path, "/conversations/x");
  server.broadcast("conversation:created", { ...server.conversation(), id: "y" });
  await settle();
  assert.deepEqual(chat.conversations.value.map((c) => c.id).sort(), ["c", "y"]);
});

test("a conversation whose frame comes after its first message is read: the message counts as unread", async () => {
  const late = { ...server.conversation(), id: "late", lastSeq: 1, revision: 2, lastReadSeq: 0, unreadCount: 1, mentionCount: 0 };
  const chat = open({ fetch: (url, init) => (url.endsWith("/conversations/late") ? Promise.resolve(new Response(JSON.stringify(late))) : server.fetch(url, init)) });
  await settle();
  server.broadcast("conversation:created", { ...late, lastReadSeq: undefined, unreadCount: undefined, mentionCount: undefined });
  await settle();
  assert.equal(chat.conversations.value.find((c) => c.id === "late")?.unreadCount, 1);
});

test("an unknown frame is nothing", async () => {
  const chat = open();
  await settle();
  server.broadcast("confetti:thrown", { conversationId: "c", revision: 99 });
  await pass(5_000);
  assert.equal(state(chat), "online");
  assert.equal(chat.conversations.value.length, 1);
});

test("a conversation that REST brought before the socket was ready settles one's own messages", async () => {
  server.say("old");
  const chat = create();
  const room = chat.open("c");
  await room.read();
  assert.equal(state(chat), "idle");
  chat.connect();
  await settle();
  const say = server.say.bind(server);
  server.say = (text, options) => { // the answer comes before the frame
    const m = say(text, { ...options, deliver: false });
    setImmediate(() => server.broadcast("message:new", m));
    return m;
  };
  const done = room.send("mine");
  await settle();
  await done;
  assert.deepEqual(room.value.drafts, []);
  assert.deepEqual(room.value.messages.map((m) => m.content), ["old", "mine"]);
});
