// failover.mjs: Postgres fails over to a standby that lacks a tail of what both clients hold. "@standby" makes the standby, "@failover"
// has it take over.
import assert from "node:assert/strict";
import { agree, done, fault, join, until, urls } from "./lib.mjs";

const anna = await join("Anna", urls[0]);
const ben = await join("Ben", urls[1]);
const group = await anna.chat.createGroup({ name: "Team", memberIds: [ben.chat.userId] });
await until(() => ben.chat.allConversations.value.length === 1, "Ben sees the group");
const [a, b] = [anna, ben].map((p) => p.chat.open(group.id));
for (let i = 0; i < 5; i++) await a.send(`kept ${i}`);
await agree([anna, ben], group.id);
await fault("standby");
for (let i = 0; i < 20; i++) await a.send(`lost ${i}`);
await until(() => b.value.messages.length === 25, "Ben has all of it");
b.markRead();
await until(() => ben.chat.unread.value.messages === 0, "he has read it");
const asked = [];
ben.chat.on("frame", ({ direction, frame }) => { if (direction === "in" && frame.type === "resync") asked.push(frame.data); });

await fault("failover");
const online = () => anna.chat.status.value.state === "online" && ben.chat.status.value.state === "online";
await until(online, "both are online", 60);
await until(() => a.value.messages.every((m) => !m.content.startsWith("lost")) && b.value.messages.every((m) => !m.content.startsWith("lost")), "what was lost is gone from both lists", 60);
await Promise.all([a.send("after, by Anna"), b.send("after, by Ben")]);
await agree([anna, ben], group.id);
assert.deepEqual(a.value.messages.slice(0, 5).map((m) => m.content), [0, 1, 2, 3, 4].map((i) => `kept ${i}`));
assert.equal(a.value.messages.length, 7);
assert.ok(asked.every((r) => typeof r.epoch === "string"));
anna.chat.close();
ben.chat.close();
done();
