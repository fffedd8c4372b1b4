// The page over a server in memory, for cost.mjs.
import { Parley, Session } from "@parley-chat/client";
import { FakeParley, token } from "../../clients/testing/fake.js";
import { App } from "../src/app.js";
import { h } from "../src/dom.js";

const server = new FakeParley();

/** Shows a conversation of so many messages, all of which the client holds. */
async function open(messages: number): Promise<void> {
  for (let i = 1; i <= messages; i++) server.say(`message ${i}`);
  server.lastRead = messages;
  const session = new Session({ fetch: server.fetch });
  await session.login({ username: "me", password: "" });
  const chat = new Parley({ fetch: server.fetch, WebSocket: server.WebSocket, token: async () => token("t") }).connect();
  const root = h("div", { id: "root" });
  document.body.append(root);
  location.hash = "#/c/c";
  new App(root, chat, session, () => {});
  const room = chat.peek("c");
  while (!room.value.info) await new Promise((r) => setTimeout(r, 10));
  await room.loadUntil(1);
}

Object.assign(globalThis, { server, open });
