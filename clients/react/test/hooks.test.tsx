import assert from "node:assert/strict";
import { after, afterEach, beforeEach, test } from "node:test";
import { Window } from "happy-dom";
import { Parley } from "@parley-chat/client";
import { act, StrictMode, type ReactElement, type ReactNode } from "react";
import type { Root } from "react-dom/client";
import { FakeParley, token } from "../../testing/fake.js";
import {
  ParleyProvider, useConversation, useConversations, useMessages, useParley, useParleyEvent, usePresence, useStatus, useTyping, useUnread,
  useUnreadCount, useUser, type Messages,
} from "../src/index.js";

const window = new Window();
for (const [name, value] of Object.entries({ window, document: window.document, navigator: window.navigator, IS_REACT_ACT_ENVIRONMENT: true })) {
  Object.defineProperty(globalThis, name, { value, configurable: true });
}
const { createRoot } = await import("react-dom/client");

let server: FakeParley;
let chat: Parley;
let root: Root;

beforeEach(() => {
  server = new FakeParley();
  chat = new Parley({ url: "http://parley.test", token: () => token("t"), WebSocket: server.WebSocket, fetch: server.fetch, outbox: null });
  root = createRoot(window.document.createElement("div") as unknown as Element);
});
afterEach(async () => {
  await act(async () => root.unmount());
  chat.close();
});
after(() => window.happyDOM.abort());

const turn = (): Promise<void> => new Promise((r) => setTimeout(r, 5));
async function draw(element: ReactNode): Promise<void> {
  await act(async () => root.render(<StrictMode><ParleyProvider chat={chat}>{element}</ParleyProvider></StrictMode>));
  await act(turn);
}
/** Waits until what is drawn satisfies the condition. */
async function until(condition: () => boolean, what: string): Promise<void> {
  for (let i = 0; i < 400; i++) {
    if (condition()) return;
    await act(turn);
  }
  assert.fail("never: " + what);
}

test("the hooks show the state, and follow it", async () => {
  server.say("old");
  let seen: Record<string, unknown> = {};
  function All(): ReactElement | null {
    const conversations = useConversations();
    const unread = useUnread();
    const status = useStatus();
    const count = useUnreadCount("c");
    const you = useUser("you");
    const presence = usePresence("you");
    seen = { ids: conversations.map((c) => c.id), unread: unread.messages, status: status.state, count, you: you?.displayName, presence: presence.status };
    return null;
  }
  await draw(<All />);
  await until(() => seen.count === 1 && seen.presence === "online", "the first state");
  assert.deepEqual(seen, { ids: ["c"], unread: 1, status: "online", count: 1, you: "you", presence: "online" });
  server.say("new");
  server.broadcast("presence:offline", { userId: "you", lastSeenAt: "2026-11-23T10:00:00.000000Z" });
  await until(() => seen.count === 2 && seen.presence === "offline", "what came");
});

test("messages: sent, shown as drafts, confirmed; references that stay", async () => {
  const renders: Messages[] = [];
  function Chat(): ReactElement | null {
    renders.push(useMessages("c"));
    return null;
  }
  await draw(<Chat />);
  await until(() => chat.synced.value, "sync");
  const first = renders.at(-1)!;
  server.silent = true;
  await act(async () => void first.send("hello"));
  assert.deepEqual(renders.at(-1)!.drafts.map((d) => d.content), ["hello"]);
  server.silent = false;
  server.say("hello", { sender: "me", clientMessageId: renders.at(-1)!.drafts[0]!.clientMessageId });
  await until(() => renders.at(-1)!.messages.length === 1, "the message");
  assert.deepEqual(renders.at(-1)!.drafts, []);
  assert.equal(renders.at(-1)!.send, first.send);
  assert.equal(renders.at(-1)!.loadOlder, first.loadOlder);
  const before = renders.length;
  server.broadcast("typing", { conversationId: "c", userId: "you", active: true });
  server.broadcast("conversation:read", { conversationId: "c", lastReadSeq: 1, unreadCount: 0 });
  await act(turn);
  assert.equal(renders.length, before, "drawn anew for what is not shown");
});

test("typing, and a conversation as a whole", async () => {
  let typing: readonly string[] = [];
  let name: string | null | undefined;
  function View(): ReactElement | null {
    typing = useTyping("c");
    name = useConversation("c").info?.name;
    return null;
  }
  await draw(<View />);
  await until(() => name === "Team", "the name");
  server.broadcast("typing", { conversationId: "c", userId: "you", active: true });
  await until(() => typing.length === 1, "typing");
  server.revision++;
  const { lastReadSeq: _, unreadCount: __, ...shared } = server.conversation();
  server.broadcast("conversation:updated", { ...shared, name: "New" });
  await until(() => name === "New", "the new name");
});

test("a room is closed with its last component, and opened again with another", async () => {
  const View = ({ id }: { id: string }): ReactElement => <>{useMessages(id).messages.length}</>;
  await draw([<View key="1" id="c" />, <View key="2" id="c" />]);
  const room = chat.peek("c");
  assert.equal(room.isOpen, true);
  await draw(<View key="1" id="c" />);
  assert.equal(room.isOpen, true);
  await draw(null);
  assert.equal(room.isOpen, false);
  await draw(<View key="1" id="c" />);
  assert.equal(room.isOpen, true);
});

test("two components never show different states in one drawing", async () => {
  const pairs: [number, number][] = [];
  let left = 0;
  const Left = (): null => {
    left = useMessages("c").messages.length;
    return null;
  };
  const Right = (): null => {
    pairs.push([left, useMessages("c").messages.length]);
    return null;
  };
  await draw([<Left key="l" />, <Right key="r" />]);
  await until(() => chat.synced.value, "sync");
  for (let i = 0; i < 20; i++) {
    server.say("m" + i);
    if (i % 3 === 0) await act(turn);
  }
  await until(() => pairs.at(-1)?.[1] === 20, "all messages");
  for (const [l, r] of pairs) assert.equal(l, r);
});

test("events, and no provider", async () => {
  const heard: string[] = [];
  const on = (e: { message: { content: string } }): void => void heard.push(e.message.content);
  const Listener = (): null => {
    useParleyEvent("message", on);
    return null;
  };
  await draw(<Listener />);
  await until(() => chat.synced.value, "sync");
  server.say("heard");
  await until(() => heard.length === 1, "the event");
  await draw(null);
  server.say("unheard");
  await act(turn);
  assert.deepEqual(heard, ["heard"]);

  const Lost = (): null => {
    useParley();
    return null;
  };
  const other = createRoot(window.document.createElement("div") as unknown as Element);
  await assert.rejects(async () => await act(async () => other.render(<Lost />)), /no ParleyProvider/);
});
