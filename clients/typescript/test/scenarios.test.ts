import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { begin, changeOf, step, type Effect, type Input, type State } from "../src/machine.js";
import type { Conversation, Message, SharedConversation } from "../src/types.js";
import { conversation, message } from "./fixtures.js";

interface Scenario {
  name: string;
  conversation?: Partial<Conversation>;
  steps: any[];
  expect: Record<string, any>;
}

const table = JSON.parse(readFileSync(new URL("../../../../scenarios.json", import.meta.url), "utf8")) as { scenarios: Scenario[] };

const whole = (m: Partial<Message>): Message => ({ ...message(m.seq!, m.revision!), ...m });
const member = (id: string) => ({ user: { id, username: id, displayName: id, avatarUrl: null }, role: "member" as const, joinedAt: "2026-11-23T10:00:00.000000Z" });
const known = (c: Partial<Conversation> = {}): Conversation =>
  conversation({ revision: 5, lastSeq: 3, lastReadSeq: 3, members: [member("me"), member("you")], ...c });

function inputOf(s: any): Input | undefined {
  if (s.frame) {
    const { type, data } = s.frame;
    if (type === "conversation:read") return { t: "marked", lastReadSeq: data.lastReadSeq };
    if (type === "state:updated") {
      const { stateRevision, ...own } = data;
      return { t: "own", stateRevision, own };
    }
    let wire: unknown = { conversationId: "c", ...data };
    if (/^message:(new|updated|deleted)$/.test(type)) wire = whole(data);
    if (type === "conversation:updated") {
      const { lastReadSeq: _, unreadCount: __, ...shared } = known(data);
      wire = shared satisfies SharedConversation;
    }
    const change = changeOf(type, wire);
    return change && { t: "change", change: change[1] };
  }
  if (s.sync) {
    const { part, asked } = s.sync;
    return { t: "sync", asked, part: { ...part, messages: part.messages.map(whole), ...(part.conversation && { conversation: known(part.conversation) }) } };
  }
  if (s.load) return { t: "load", load: 1 };
  if (s.page) return { t: "page", load: 1, messages: s.page.map(whole) };
  if (s.info) return { t: "info", conversation: known(s.info) };
  if (s.draft) return { t: "draft", draft: { clientMessageId: s.draft, conversationId: "c", content: "draft", createdAt: "", state: "queued" } };
  if (s.failed) return { t: "failed", clientMessageId: s.failed, problem: { type: "", title: "", status: 403, detail: "", code: "forbidden", requestId: "" } };
  if (s.acked) return { t: "acked", clientMessageId: s.acked.clientMessageId, message: whole(s.acked.message) };
  throw new Error("an unknown step: " + JSON.stringify(s));
}

function shown(m: Message): string {
  const counts = (m.reactions ?? []).map((r) => r.reaction + r.count).join();
  return `${m.seq}:${m.content}${m.mine ? "!" + m.mine.join() : ""}${counts ? "=" + counts : ""}`;
}

function said(e: Effect): string {
  if (e.e === "message" || e.e === "changed") return `${e.e} ${e.message.seq}`;
  if (e.e === "resend") return "resend " + e.draft.clientMessageId;
  return e.e === "gone" ? "gone " + e.reason : e.e;
}

function seen(s: State, effects: Effect[]): Record<string, unknown> {
  return {
    held: s.held, first: s.messages.first, messages: s.messages.all.map(shown), waiting: s.waiting.map((c) => c.revision), unread: s.info.unreadCount,
    infoName: s.info.name, members: s.info.members.map((m) => m.user.id), memberCount: s.info.memberCount, lastMessage: s.info.lastMessage?.content,
    drafts: s.drafts.map((d) => `${d.clientMessageId} ${d.state}`), gone: s.gone, effects: effects.map(said),
  };
}

for (const scenario of table.scenarios) {
  test(scenario.name, () => {
    let state = begin("me", known(scenario.conversation));
    const effects: Effect[] = [];
    for (const s of scenario.steps) {
      const input = inputOf(s);
      if (!input) continue;
      const [next, e] = step(state, input);
      state = next;
      effects.push(...e);
    }
    const all = seen(state, effects);
    const compared = Object.fromEntries(Object.keys(scenario.expect).map((k) => [k, all[k]]));
    assert.deepEqual(compared, scenario.expect);
  });
}

test("the table names what it compares", () => {
  const names = Object.keys(seen(begin("me", known()), []));
  for (const s of table.scenarios) for (const k of Object.keys(s.expect)) assert.ok(names.includes(k), `${s.name}: ${k}`);
});
