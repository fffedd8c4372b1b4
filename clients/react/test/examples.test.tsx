import assert from "node:assert/strict";
import { after, test } from "node:test";
import { Window } from "happy-dom";
import { act, createElement } from "react";
import { FakeParley } from "../../testing/fake.js";

const window = new Window({ url: "http://parley.test/" });
const { document } = window;
for (const [name, value] of Object.entries({ window, document, navigator: window.navigator, FormData: window.FormData, location: window.location, localStorage: window.localStorage, IS_REACT_ACT_ENVIRONMENT: true })) {
  Object.defineProperty(globalThis, name, { value, configurable: true });
}
window.document.hasFocus = () => true;
const { createRoot } = await import("react-dom/client");
after(() => window.happyDOM.abort());

function serve(): FakeParley {
  const server = new FakeParley();
  window.localStorage.clear();
  globalThis.fetch = server.fetch as typeof fetch;
  globalThis.WebSocket = server.WebSocket as unknown as typeof WebSocket;
  server.say("hello from you");
  return server;
}
const turn = (): Promise<void> => act(() => new Promise<void>((r) => setTimeout(r, 5)));
async function until(condition: () => boolean, what: string): Promise<void> {
  for (let i = 0; i < 400; i++) {
    if (condition()) return;
    await turn();
  }
  assert.fail(`never: ${what}: ${document.body.innerHTML}`);
}
const shows = (text: string): boolean => document.body.textContent.includes(text);
const button = (text: string) => [...document.querySelectorAll("button")].find((b) => b.textContent?.startsWith(text));
const key = (e: { dispatchEvent(e: unknown): unknown }): unknown => e.dispatchEvent(new window.KeyboardEvent("keydown", { key: "Enter", bubbles: true }));

test("the chat in plain TypeScript signs in, shows what is there, and sends", async () => {
  const server = serve();
  document.body.innerHTML = `<main id="app"></main>`;
  await import("../../examples/plain/main.js");
  document.querySelector("input")!.value = "me";
  button("Sign in")!.click();
  await until(() => button("Team") !== undefined, "the conversation");
  button("Team")!.click();
  await until(() => shows("you: hello from you"), "the message");
  const text = document.querySelector<any>("input[placeholder=message]");
  text.value = "hello from me";
  key(text);
  await until(() => shows("me: hello from me"), "one's own message");
  assert.equal(server.messages.length, 2);
  await until(() => server.lastRead === 2, "it is read");
  server.sockets.at(-1)!.end(4403);
  await until(() => shows("Signed out."), "the end");
});

test("the chat in React signs in, shows what is there, and sends", async () => {
  const server = serve();
  document.body.innerHTML = `<div id="root"></div>`;
  const { App } = await import("../../examples/react/App.js");
  const root = createRoot(document.querySelector("#root") as unknown as Element);
  await act(async () => root.render(createElement(App, { url: "http://parley.test" })));
  document.querySelector<any>("input[name=username]").value = "me";
  await act(async () => button("Enter")!.click());
  await until(() => button("Team") !== undefined, "the conversation");
  await act(async () => button("Team")!.click());
  await until(() => shows("you: hello from you"), "the message");
  server.say("and again");
  await until(() => shows("and again"), "a live one");
  await act(async () => root.unmount());
});
