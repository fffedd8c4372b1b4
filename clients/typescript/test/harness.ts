/** Each test of a file that imports this has a server and a clock of its own, and its clients are closed at its end. */
import { afterEach, beforeEach, mock } from "node:test";
import { FakeParley, token } from "../../testing/fake.js";
import { Parley, type ParleyOptions } from "../src/index.js";

export let server: FakeParley;
let chats: Parley[] = [];

beforeEach(() => {
  server = new FakeParley();
  mock.timers.enable({ apis: ["setTimeout", "setInterval", "Date"], now: Date.parse("2026-11-23T10:00:00Z") });
});

afterEach(() => {
  for (const c of chats) c.close();
  chats = [];
  mock.timers.reset();
  mock.restoreAll();
});

/** Lets everything happen that is due at the current time. */
export const settle = async (): Promise<void> => {
  for (let i = 0; i < 20; i++) await new Promise((r) => setImmediate(r));
};

/** Moves the clock and lets everything happen that is due then. */
export const pass = async (ms: number): Promise<void> => {
  mock.timers.tick(ms);
  await settle();
};

/** A client of the server that is not connected yet. */
export function create(options: Partial<ParleyOptions> = {}): Parley {
  const chat = new Parley({ url: "http://parley.test", token: () => token("t"), WebSocket: server.WebSocket, fetch: server.fetch, outbox: null, ...options });
  chats.push(chat);
  return chat;
}

/** The data of all frames of a type that the server has received. */
export const sent = (type: string): any[] => server.sockets.flatMap((s) => s.sent).filter((f) => f.type === type).map((f) => f.data);

/** The newest socket. */
export const last = () => server.sockets[server.sockets.length - 1]!;
