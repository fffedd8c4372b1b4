// What the scripts beside it share, which run the built client against real pods. A Go test starts them and names the pods in
// PARLEY_TEST_URLS: a line "@what" on their output has it do something, and is answered by a line on their input.
import assert from "node:assert/strict";
import readline from "node:readline";
import { WebSocket } from "ws";
import { Parley, Session } from "../typescript/dist/index.js";

export const urls = process.env.PARLEY_TEST_URLS.split(",");
const answers = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();

/** Has the Go test do something, and returns its answer. */
export const fault = async (what) => {
  console.log("@" + what);
  return (await answers.next()).value;
};

export const until = async (condition, what, seconds = 30) => {
  const end = Date.now() + seconds * 1000;
  while (!condition()) {
    assert.ok(Date.now() < end, "never: " + what);
    await new Promise((r) => setTimeout(r, 20));
  }
};

function memory() {
  const m = new Map();
  return { getItem: (k) => m.get(k) ?? null, setItem: (k, v) => void m.set(k, v), removeItem: (k) => void m.delete(k) };
}

export async function join(name, url) {
  const session = new Session({ url, storage: memory() });
  await session.register({ username: `${name}_${Math.random().toString(36).slice(2, 10)}`, password: "correct horse battery", displayName: name });
  const chat = new Parley({ url, token: session.token, WebSocket, outbox: null }).connect();
  chat.on("error", (e) => console.error(name, e.problem));
  await until(() => chat.synced.value, name + " is in step");
  return { session, chat };
}

/** What both must agree on, and REST too. */
const facts = (m) => [m.seq, m.revision, m.content, m.senderId, m.editedAt, m.deletedAt, m.replyToId, JSON.stringify(m.reactions ?? [])].join("|");

async function history({ chat }, id) {
  const all = [];
  for (;;) {
    const page = await chat.request("GET", `/conversations/${id}/messages?afterSeq=${all.length}&limit=100`);
    all.push(...page.data);
    if (page.data.length < 100) return all.map(facts);
  }
}

/** Waits until everybody's list is that of REST. */
export async function agree(people, id, drafts = true) {
  for (const p of people) {
    const room = p.chat.peek(id);
    if (drafts) await until(() => room.value.drafts.length === 0, "drafts are settled");
    const truth = await history(p, id);
    await until(() => room.value.messages.at(-1)?.seq === truth.length && room.state.waiting.length === 0, "the newest message is there");
    await room.loadUntil(1);
    await until(() => room.value.messages.map(facts).join() === truth.join(), "the list is that of REST");
  }
}

/** The end that the Go test waits for. */
export function done() {
  console.log("all as promised");
  process.exit(0);
}
