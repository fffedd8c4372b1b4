// The page in a real browser, on two pods: `go test ./test -run ThePageInABrowser` starts it.
import assert from "node:assert/strict";
import { browser, consoleFaults, Person, remains, step } from "./harness.mjs";
import { accounts, attachments, conversation, groups, habits, mentions, ownState, relations, settings } from "./features.mjs";
import { clock, histories, kills, offline, redis, tabs, flood } from "./faults.mjs";
import { cost } from "./cost.mjs";
import { pushes } from "./push.mjs";
import { demo, documents, seeded, views } from "./views.mjs";

try {
  const anna = await Person.open("Anna", 0);
  const ben = await Person.open("Ben", 1);
  const cleo = await (await Person.open("Cleo", 1)).register();
  const people = { anna, ben, cleo };
  await step("accounts", () => accounts(people));
  await step("a conversation", () => conversation(people));
  await step("groups", () => groups(people));
  await step("one's own state", () => ownState(people));
  await step("mentions", () => mentions(people));
  await step("friends and blocks", () => relations(people));
  await step("attachments", () => attachments(people));
  await step("habits", () => habits(people));
  await step("views", () => views(people));
  await step("what make run has", seeded);
  await step("the API's documents", () => documents(people));
  await step("a pod is killed", () => kills(people));
  await step("offline", () => offline(people));
  await step("Redis stopped", () => redis(people));
  await step("three tabs", () => tabs(people));
  await step("a long history", () => histories(people));
  await step("many messages a second", () => flood(people));
  await step("five minutes asleep", () => clock(people)); // its clock is no longer that of the browser
  await step("what a message costs", cost);
  await step("the demo", demo);
  await step("push", pushes);
  await step("settings", () => settings(people));
  assert.deepEqual(consoleFaults, []);
  console.log("all as promised");
} catch (err) {
  console.error(err.stack);
  console.error(consoleFaults.join("\n"));
  await remains();
  process.exitCode = 1;
}
await browser.close();
process.exit();
