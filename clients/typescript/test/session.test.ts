import "fake-indexeddb/auto";
import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { token } from "../../testing/fake.js";
import { indexedDBStore, Session, type Draft, type SessionStorageLike } from "../src/index.js";
import { sleep } from "../src/http.js";
import { exclusively, Tokens } from "../src/token.js";

/** Locks of one origin, as browsers have them; Node 20 has none. */
class Locks {
  private readonly held = new Map<string, Promise<unknown>>();
  async request(name: string, options: any, fn: (lock: object | null) => Promise<unknown>): Promise<unknown> {
    if (options.ifAvailable && this.held.has(name)) return fn(null);
    const aborted = new Promise((_, reject) => options.signal?.addEventListener("abort", () => reject(options.signal.reason)));
    while (this.held.has(name)) await Promise.race([this.held.get(name)!.catch(() => {}), aborted]);
    const run = fn({});
    this.held.set(name, run);
    return run.finally(() => this.held.delete(name));
  }
}

const before = Object.getOwnPropertyDescriptor(globalThis, "navigator");
const withLocks = (): void => void Object.defineProperty(globalThis, "navigator", { value: { locks: new Locks() }, configurable: true });
afterEach(() => {
  if (before) Object.defineProperty(globalThis, "navigator", before);
  else delete (globalThis as { navigator?: unknown }).navigator;
});

function storage(): SessionStorageLike {
  const m = new Map<string, string>();
  return { getItem: (k) => m.get(k) ?? null, setItem: (k, v) => void m.set(k, v), removeItem: (k) => void m.delete(k) };
}

/** The storages of tabs with a process each: what one of them stores is seen by the others some time later. */
function lagging(tabs: number, ms: number): SessionStorageLike[] {
  const all = Array.from({ length: tabs }, () => storage());
  return all.map((own) => ({
    ...own,
    setItem: (k, v) => {
      own.setItem(k, v);
      for (const other of all) if (other !== own) setTimeout(() => other.setItem(k, v), ms);
    },
  }));
}

/** Refresh tokens that may be spent once. */
function accounts(grace = 0) {
  let n = 0;
  let spent = 0;
  const calls: string[] = [];
  const pair = () => ({ user: { id: "me" }, accessToken: token("a" + ++n), refreshToken: "r" + n, expiresIn: 900 });
  return {
    calls,
    fetch: async (url: string, init: RequestInit): Promise<Response> => {
      calls.push(new URL(url).pathname);
      await new Promise((r) => setTimeout(r, 5));
      if (url.endsWith("/auth/refresh")) {
        const { refreshToken } = JSON.parse(String(init.body));
        if (refreshToken !== "r" + n && spent++ >= grace) return Response.json({ code: "invalid_refresh_token", status: 401, detail: "" }, { status: 401 });
      }
      if (url.endsWith("/auth/logout")) return new Response(null, { status: 204 });
      return Response.json(pair());
    },
  };
}

test("two tabs that share a session refresh once", async () => {
  withLocks();
  const a = accounts();
  const shared = storage();
  const tabs = [1, 2, 3].map(() => new Session({ url: "http://p.test", storage: shared, fetch: a.fetch }));
  await tabs[0]!.login({ username: "me", password: "secret secret" });
  const tokens = await Promise.all(tabs.map((t) => t.token({ refresh: true })));
  assert.deepEqual(a.calls, ["/api/auth/login", "/api/auth/refresh"]);
  assert.equal(new Set(tokens).size, 1);
});

test("tabs that see each other's storage late refresh once, also one that asks just after it", async () => {
  withLocks();
  const a = accounts(9);
  const tabs = lagging(4, 60).map((s) => new Session({ url: "http://p.test", storage: s, fetch: a.fetch }));
  await tabs[0]!.login({ username: "me", password: "secret secret" });
  await sleep(80);
  const asked = tabs.slice(0, 3).map((t) => t.token({ refresh: true }));
  await asked[0];
  asked.push(tabs[3]!.token({ refresh: true }));
  const tokens = await Promise.all(asked);
  assert.deepEqual(a.calls, ["/api/auth/login", "/api/auth/refresh"]);
  assert.equal(new Set(tokens).size, 1);
});

test("a tab that waits for one that could not refresh does it itself", async () => {
  withLocks();
  const a = accounts();
  const shared = storage();
  const fetches = [() => Promise.reject(new TypeError("network")), a.fetch];
  const tabs = fetches.map((fetch) => new Session({ url: "http://p.test", storage: shared, fetch }));
  await tabs[1]!.login({ username: "me", password: "secret secret" });
  const [first, second] = await Promise.allSettled(tabs.map((t) => t.token({ refresh: true })));
  assert.equal(first!.status, "rejected");
  assert.equal(second!.status, "fulfilled");
});

test("a lock that a frozen tab holds is not waited for", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  withLocks();
  const frozen = exclusively("frozen", () => new Promise<void>(() => {}));
  const ran = exclusively("frozen", async (waited) => waited);
  for (let i = 0; i < 5; i++) await Promise.resolve();
  t.mock.timers.tick(20_000);
  assert.equal(await ran, true);
  void frozen;
});

test("without locks the tab that was late takes the token of the other", async () => {
  const a = accounts();
  const shared = storage();
  const tabs = [1, 2].map(() => new Session({ url: "http://p.test", storage: shared, fetch: a.fetch }));
  await tabs[0]!.login({ username: "me", password: "secret secret" });
  const tokens = await Promise.all(tabs.map((t) => t.token({ refresh: true })));
  assert.ok(tokens.every((t) => typeof t === "string"));
  assert.notEqual(tabs[1]!.user, null);
});

test("a session that is over is forgotten, a server that is away is not the end of it", async () => {
  const a = accounts();
  const shared = storage();
  const s = new Session({ url: "http://p.test", storage: shared, fetch: a.fetch });
  await s.login({ username: "me", password: "secret secret" });
  const offline = new Session({ url: "http://p.test", storage: shared, fetch: () => Promise.reject(new TypeError("network")) });
  await assert.rejects(async () => offline.token({ refresh: true }), { message: /network/ });
  assert.equal(s.user?.id, "me");
  const kept = JSON.parse(shared.getItem("parley.session")!);
  shared.setItem("parley.session", JSON.stringify({ ...kept, refreshToken: "stolen" }));
  assert.equal(await s.token({ refresh: true }), null);
  assert.equal(s.user, null);
});

test("logging out ends it here even if the server is away", async () => {
  const a = accounts();
  const s = new Session({ url: "http://p.test", storage: storage(), fetch: a.fetch });
  await s.login({ username: "me", password: "secret secret" });
  await s.logout();
  assert.equal(await s.token({ refresh: false }), null);
  assert.equal(a.calls.at(-1), "/api/auth/logout");
});

test("a token function is called once for all tabs of one user, and never gives a token to another's", async () => {
  withLocks();
  let calls = 0;
  const source = (sub: string) => async ({ refresh }: { refresh: boolean }) => {
    if (refresh) calls++;
    await new Promise((r) => setTimeout(r, 10));
    return token(`${sub}${refresh ? calls : 0}`, 3600 + calls, sub);
  };
  const tabs = [new Tokens(source("me"), "t"), new Tokens(source("me"), "t")];
  const other = new Tokens(source("you"), "t");
  const old = await Promise.all(tabs.map((t) => t.get()));
  const theirs = await other.get();
  const fresh = await Promise.all(tabs.map((t, i) => t.get(old[i])));
  assert.equal(calls, 1);
  assert.equal(fresh[0], fresh[1]);
  assert.equal(await other.get(), theirs);
  for (const t of [...tabs, other]) t.close();
});

test("a token that is about to expire is not used", async () => {
  let n = 0;
  const tokens = new Tokens(() => token("t" + ++n, n === 1 ? 20 : 3600), "x");
  await tokens.get();
  await tokens.get();
  await tokens.get();
  assert.equal(n, 2);
  tokens.close();
});

test("drafts are kept in IndexedDB by user, in their order", async () => {
  const draft = (id: string, at: number): Draft => ({ clientMessageId: id, conversationId: "c", content: id, createdAt: new Date(at).toISOString(), state: "queued" });
  const store = indexedDBStore("test")!;
  await store.put("me", draft("b", 2000));
  await store.put("me", draft("a", 1000));
  await store.put("you", draft("c", 500));
  const reloaded = indexedDBStore("test")!;
  assert.deepEqual((await reloaded.all("me")).map((d) => d.clientMessageId), ["a", "b"]);
  await reloaded.delete("me", "a");
  assert.deepEqual((await store.all("me")).map((d) => d.clientMessageId), ["b"]);
  assert.deepEqual((await store.all("you")).map((d) => d.clientMessageId), ["c"]);
});
