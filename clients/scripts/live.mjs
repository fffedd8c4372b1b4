// live.mjs: two people chat over two pods, which are killed: "@kill N" has that pod killed and started again.
import assert from "node:assert/strict";
import { agree, done, fault, join, until, urls } from "./lib.mjs";

const anna = await join("Anna", urls[0]);
const ben = await join("Ben", urls[1]);
const people = [anna, ben];

// A direct conversation: everything once.
const { id } = await anna.chat.createDirect(ben.chat.userId);
const a = anna.chat.open(id);
await until(() => ben.chat.conversations.value.length === 1, "Ben sees the conversation");
const b = ben.chat.open(id);
const first = await a.send("Hello");
await until(() => b.value.messages.length === 1, "Ben sees the message");
assert.equal(ben.chat.unread.value.messages, 1);
b.markRead();
await until(() => a.seenBy(first).length === 1, "Anna sees that it was read");
assert.equal(ben.chat.unread.value.messages, 0);
// He types on: a sign of it gets lost while Anna's pod is still subscribing to a new conversation.
await until(() => (b.typing(), a.value.typing[0] === ben.chat.userId), "Anna sees Ben type");
await b.send("Hi", { replyToId: first.id });
await until(() => a.value.typing.length === 0, "he has sent");
await a.edit(first.id, "Hello, Ben");
await until(() => b.value.messages[0].content === "Hello, Ben", "the edit");
await b.react(first.id, "👍");
await until(() => a.value.messages[0].reactions?.[0]?.count === 1, "the reaction");
assert.deepEqual(b.value.messages[0].mine, ["👍"]);
assert.equal(a.value.messages[0].mine, undefined);
const gone = await a.send("oops");
await a.remove(gone.id);
await until(() => b.value.messages.at(-1)?.deletedAt, "the deletion");
const presence = ben.chat.presence(anna.chat.userId);
const end = presence.subscribe(() => {});
await until(() => presence.value.status === "online", "presence");
end();
assert.equal((await ben.chat.search("anna")).some((u) => u.id === anna.chat.userId), true);
await agree(people, id);
await assert.rejects(b.edit(first.id, "not mine"), (e) => e.status === 403);

// Pods are killed while both send: nothing is lost, doubled or out of order.
const sends = [];
for (let i = 0; i < 40; i++) {
  sends.push(a.send("a" + i), b.send("b" + i));
  if (i === 10) await fault("kill 0");
  if (i === 25) await fault("kill 1");
  await new Promise((r) => setTimeout(r, 10));
}
await Promise.all(sends);
await agree(people, id);
for (const [who, letter] of [[anna, "a"], [ben, "b"]]) {
  const own = a.value.messages.filter((m) => m.senderId === who.chat.userId && new RegExp(`^${letter}\\d+$`).test(m.content)).map((m) => m.content);
  assert.deepEqual(own, [...Array(40).keys()].map((i) => letter + i));
}

// Offline with drafts, and more missed than a window holds.
await until(() => anna.chat.status.value.state === "online" && ben.chat.status.value.state === "online", "both are online");
ben.chat.close();
const offline = ["x", "y", "z"].map((t) => b.send(t));
await Promise.all([...Array(130).keys()].map((i) => a.send("missed" + i)));
assert.deepEqual(b.value.drafts.map((d) => d.content), ["x", "y", "z"]);
ben.chat.connect();
await Promise.all(offline);
await agree(people, id);

// A group: who is added sees it, who is removed does not any more.
const group = await anna.chat.createGroup({ name: "Team", memberIds: [ben.chat.userId, (await join("Cleo", urls[0])).chat.userId] });
await until(() => ben.chat.allConversations.value.some((c) => c.id === group.id), "Ben sees the group");
const g = anna.chat.open(group.id);
await g.update({ name: "The team" });
await until(() => ben.chat.peek(group.id).value.info.name === "The team", "the new name");
await g.removeMember(ben.chat.userId);
await until(() => !ben.chat.allConversations.value.some((c) => c.id === group.id), "it is gone");
await g.addMembers([ben.chat.userId]);
await until(() => ben.chat.allConversations.value.some((c) => c.id === group.id), "it is there again");
await g.send("welcome back");
await until(() => ben.chat.peek(group.id).value.messages.at(-1)?.content === "welcome back", "Ben hears of it");

// A session that is over stops the client.
await ben.session.logout();
await until(() => ben.chat.status.value.reason === "signed_out", "Ben is signed out");
anna.chat.close();
done();
