/** What an event costs does not grow with the history: elements that are passed over are counted, not time. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { FakeParley, token } from "../../testing/fake.js";
import { MessageList } from "../src/list.js";
import { Parley } from "../src/parley.js";
import type { Message } from "../src/types.js";
import { message } from "./fixtures.js";

/** Runs fn and returns how many elements of arrays and lists it passed over. */
async function passed(fn: () => Promise<void> | void): Promise<number> {
  let n = 0;
  const proto = Array.prototype as any;
  const names = ["slice", "map", "filter", "reduce", "reduceRight", "find", "findIndex", "findLast", "findLastIndex", "some", "every", "forEach", "indexOf", "concat", "sort", "splice", Symbol.iterator];
  const methods = names.map((name) => [name, proto[name]] as const);
  const at = MessageList.prototype.at;
  for (const [name, method] of methods) {
    proto[name] = function (this: unknown[], ...args: unknown[]) {
      n += this.length;
      return method.apply(this, args);
    };
  }
  MessageList.prototype.at = function (seq) {
    n++;
    return at.call(this, seq);
  };
  try {
    await fn();
  } finally {
    for (const [name, method] of methods) proto[name] = method;
    MessageList.prototype.at = at;
  }
  return n;
}

const settled = (): Promise<void> => new Promise((r) => setTimeout(r));

/** What each kind of event costs with so many messages held. */
async function costs(held: number): Promise<Record<string, number>> {
  const server = new FakeParley();
  const push = (type: string, data: object) => server.broadcast(type, { conversationId: "c", revision: ++server.revision, ...data });
  for (let i = 0; i < held; i++) server.say("m");
  server.lastRead = held;
  const info = server.conversation.bind(server);
  server.conversation = () => ({ ...info(), mentionCount: 0 });
  const chat = new Parley({ url: "http://parley.test", fetch: server.fetch, WebSocket: server.WebSocket, token: async () => token("t"), outbox: null }).connect();
  const room = chat.open("c");
  while (!room.value.info) await settled();
  await room.loadUntil(1);
  await settled();
  assert.equal(room.value.list.length, held);
  let drawn = 0;
  room.subscribe(() => (drawn += room.value.list.slice(room.value.list.last - 50).length));
  const recent = (): Message => room.value.list.at(room.value.list.last - 3)!;
  const out: Record<string, number> = {};
  const count = async (name: string, event: (i: number) => void): Promise<void> => {
    out[name] = await passed(async () => {
      for (let i = 0; i < 50; i++) {
        event(i);
        await settled();
      }
    });
  };
  await count("a message, unread", (i) => void server.say(`unread ${i}`));
  await count("a mention, unread", () => server.broadcast("message:new", { ...server.say("@me", { deliver: false }), mentions: { userIds: ["me"] } }));
  assert.equal(room.value.info?.mentionCount, 50);
  await count("an edit", () => void push("message:updated", { ...recent(), content: "edited", revision: server.revision + 1 }));
  await count("a reaction", () => void push("message:reacted", { messageId: recent().id, reactions: [{ reaction: "🎉", count: 1 }], by: [{ userId: "you", reactions: ["🎉"] }] }));
  await count("a receipt", () => server.broadcast("receipt:read", { messageId: recent().id, userId: "you", readAt: "" }));
  await count("typing", (i) => server.broadcast("typing", { conversationId: "c", userId: "you", active: i % 2 === 0 }));
  room.markRead();
  await count("a message that is read", (i) => {
    void server.say(`read ${i}`);
    room.markRead();
  });
  assert.equal(room.value.lastReadSeq, room.value.list.last);
  assert.ok(drawn > 0);
  chat.close();
  return out;
}

test("an event costs the same in a conversation of 1,024 and of 20,480 messages", async () => {
  const [few, many] = [await costs(1_024), await costs(20_480)];
  // The inner nodes of a longer list have more children, up to 32.
  for (const [name, n] of Object.entries(few)) assert.ok(many[name]! <= n * 1.5, `${name}: ${n} elements of 1,024 messages, ${many[name]} of 20,480`);
});

test("a list is a value", () => {
  const ten = MessageList.of([5, 6, 7].map((seq) => message(seq, seq)), 7);
  const more = ten.with(message(8, 8)).with(message(4, 9)).with({ ...message(6, 10), content: "new" });
  assert.deepEqual(ten.all.map((m) => m.content), ["m5", "m6", "m7"]);
  assert.deepEqual(more.all.map((m) => m.content), ["m4", "m5", "new", "m7", "m8"]);
  assert.equal(more.all, more.all);
  assert.deepEqual([more.at(3), more.at(9), ten.at(4), ten.at(8)], [undefined, undefined, undefined, undefined]);
  assert.deepEqual(more.slice(0, 5).map((m) => m.seq), [4, 5]);
  assert.deepEqual([new MessageList(8, 7).length, new MessageList(8, 7).all.length], [0, 0]);
});

test("a list holds seqs that need more than 32 bits", () => {
  const at = 2 ** 40 + 2 ** 31;
  const list = MessageList.of([at - 1, at, at + 1].map((seq) => message(seq, 1)), at + 1).with(message(at + 2, 1));
  assert.deepEqual(list.all.map((m) => m.seq), [at - 1, at, at + 1, at + 2]);
});
