import { call, failure, ParleyError, sleep, type Fetch } from "./http.js";
import type { OwnUser } from "./types.js";

/**
 * Returns an access token. With `refresh` the server refused the last one, or it is about to expire: another is wanted.
 * `null` means that nobody is signed in any more.
 */
export type TokenFunction = (request: { refresh: boolean }) => Promise<string | null> | string | null;

const margin = 30_000;
const lockTimeout = 20_000;
const lockLingers = 100;
const newsPause = 25;
const newsTries = 20;

interface Claims {
  sub?: string;
  sid?: string;
  exp?: number;
  iat?: number;
}

/** What a JWT says, unverified: the server verifies, the client only plans. */
export function claimsOf(token: string): Claims {
  try {
    return JSON.parse(atob(token.split(".")[1]!.replace(/-/g, "+").replace(/_/g, "/"))) as Claims;
  } catch {
    return {};
  }
}

function fresh(token: string | undefined): token is string {
  if (!token) return false;
  const { exp, iat } = claimsOf(token);
  if (exp === undefined) return true;
  return exp * 1000 - Date.now() > Math.min(margin, iat ? ((exp - iat) * 1000) / 4 : margin);
}

/**
 * Runs fn while no other tab of this origin runs one of this name. `waited` is set if one did. The first tab keeps the lock for a moment
 * after fn: what it stored or posted reaches the processes of other tabs later than its lock does.
 */
export function exclusively<T>(name: string, fn: (waited: boolean) => Promise<T>): Promise<T> {
  const locks = globalThis.navigator?.locks as LockManager | undefined;
  if (!locks) return fn(false);
  return new Promise((resolve, reject) => {
    const run = (waited: boolean): Promise<void> => fn(waited).then(resolve, reject);
    const queue = async (): Promise<void> => {
      if (await locks.request(name, { ifAvailable: true }, async (lock) => lock && run(false).then(() => sleep(lockLingers)).then(() => lock))) return;
      const abort = new AbortController();
      const timer = setTimeout(() => abort.abort(), lockTimeout);
      try {
        await locks.request(name, { signal: abort.signal }, () => run(true));
      } catch (err) {
        if (!abort.signal.aborted) throw err;
        await run(true); // the tab that holds it is frozen
      } finally {
        clearTimeout(timer);
      }
    };
    queue().catch(reject);
  });
}

/** The token of this user: one call of the token function for all callers and all tabs. */
export class Tokens {
  private current: string | undefined;
  private asked: Promise<string> | undefined;
  private channel: BroadcastChannel | undefined;
  private heard: (() => void) | undefined;

  constructor(private readonly source: TokenFunction, private readonly name: string) {}

  /** Returns a token that is not `refused` and lives for half a minute at least. Rejects with `signed_out`. */
  get(refused?: string): Promise<string> {
    if (this.current !== refused && fresh(this.current)) return Promise.resolve(this.current);
    this.asked ??= this.ask(refused ?? this.current).finally(() => (this.asked = undefined));
    return this.asked;
  }

  private async ask(old: string | undefined): Promise<string> {
    const call = async (waited: boolean): Promise<string> => {
      // Another tab has just refreshed: its token is on its way.
      if (waited && this.current === old) await this.news(250);
      if (this.current !== old && fresh(this.current)) return this.current;
      let token = await this.source({ refresh: old !== undefined });
      if (!token) throw failure("signed_out", "nobody is signed in", 401);
      this.current = token;
      this.listen(token);
      this.channel?.postMessage(token);
      return token;
    };
    const sub = old && claimsOf(old).sub;
    return sub ? exclusively(`${this.name}:${sub}`, call) : call(false);
  }

  private news(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.heard = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  /** Takes tokens of other tabs, of the same user and session only. */
  private listen(token: string): void {
    const { sub } = claimsOf(token);
    if (this.channel || !sub || typeof BroadcastChannel === "undefined") return;
    this.channel = new BroadcastChannel(`${this.name}:${sub}`);
    (this.channel as { unref?: () => void }).unref?.();
    this.channel.onmessage = (e) => {
      const theirs = claimsOf(e.data as string);
      const mine = claimsOf(this.current ?? "");
      if (theirs.sub !== mine.sub || theirs.sid !== mine.sid || (theirs.exp ?? 0) < (mine.exp ?? 0)) return;
      this.current = e.data as string;
      this.heard?.();
    };
  }

  close(): void {
    this.channel?.close();
    this.channel = undefined;
  }
}

/** What is kept of a session. */
export interface StoredSession {
  user: OwnUser;
  accessToken: string;
  refreshToken: string;
}

/** Where a session is kept: `localStorage`, `sessionStorage`, or anything alike. */
export interface SessionStorageLike {
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
  removeItem(key: string): void;
}

function memory(): SessionStorageLike {
  const m = new Map<string, string>();
  return { getItem: (k) => m.get(k) ?? null, setItem: (k, v) => void m.set(k, v), removeItem: (k) => void m.delete(k) };
}

/** `localStorage`, if there is one and the page may use it. */
function browserStorage(): SessionStorageLike {
  try {
    return localStorage;
  } catch {
    return memory();
  }
}

/** Parley's own accounts: signs up and in, keeps the session, refreshes it once for all tabs that share the storage. */
export class Session {
  private readonly base: string;
  private readonly fetcher: Fetch;
  private storage: SessionStorageLike;
  private readonly key: string;

  constructor(options: { url?: string; storage?: SessionStorageLike; key?: string; fetch?: Fetch } = {}) {
    this.base = baseOf(options.url);
    this.fetcher = options.fetch ?? ((u, i) => fetch(u, i));
    this.storage = options.storage ?? browserStorage();
    this.key = options.key ?? "parley.session";
  }

  /** Who is signed in, as of the sign-in; null if nobody is. */
  get user(): OwnUser | null {
    return this.read()?.user ?? null;
  }

  register(account: { username: string; password: string; displayName?: string }): Promise<OwnUser> {
    return this.open("/auth/register", account);
  }

  login(account: { username: string; password: string }): Promise<OwnUser> {
    return this.open("/auth/login", account);
  }

  /** Ends the session here and on the server. Without the server it ends here. */
  async logout(): Promise<void> {
    const s = this.read();
    this.storage.removeItem(this.key);
    if (s) await call(this.fetcher, this.base + "/auth/logout", "POST", { refreshToken: s.refreshToken }).catch(() => {});
  }

  /** The token function of this session, for `new Parley({ token: session.token })`. */
  readonly token: TokenFunction = async ({ refresh }) => {
    const before = this.read();
    if (!before) return null;
    if (!refresh && fresh(before.accessToken)) return before.accessToken;
    return exclusively("parley:" + this.key, async (waited) => {
      let s = this.read();
      // Another tab has just refreshed: what it stored is on its way.
      for (let n = 0; waited && n < newsTries && s?.accessToken === before.accessToken; n++) {
        await sleep(newsPause);
        s = this.read();
      }
      if (!s) return null;
      if (s.accessToken !== before.accessToken && fresh(s.accessToken)) return s.accessToken; // another tab did it
      try {
        const pair = await call<StoredSession>(this.fetcher, this.base + "/auth/refresh", "POST", { refreshToken: s.refreshToken });
        this.write({ user: pair.user ?? s.user, accessToken: pair.accessToken, refreshToken: pair.refreshToken });
        return pair.accessToken;
      } catch (err) {
        if (!(err instanceof ParleyError) || err.status !== 401) throw err;
        const now = this.read(); // a tab without locks may have been quicker
        if (now && now.refreshToken !== s.refreshToken) return now.accessToken;
        this.storage.removeItem(this.key);
        return null;
      }
    });
  };

  private async open(path: string, account: object): Promise<OwnUser> {
    const s = await call<StoredSession>(this.fetcher, this.base + path, "POST", account);
    this.write(s);
    return s.user;
  }

  private read(): StoredSession | null {
    try {
      return JSON.parse(this.storage.getItem(this.key) ?? "null") as StoredSession | null;
    } catch {
      return null;
    }
  }

  private write({ user, accessToken, refreshToken }: StoredSession): void {
    const text = JSON.stringify({ user, accessToken, refreshToken });
    try {
      this.storage.setItem(this.key, text);
    } catch { // it is full: a refresh token that is used up must not stay
      this.storage.removeItem(this.key);
      (this.storage = memory()).setItem(this.key, text);
    }
  }
}

/** The root of the API of a server's address; without one, that of the page. */
export function baseOf(url?: string): string {
  const origin = url ?? globalThis.location?.origin;
  if (!origin) throw new TypeError("Parley needs a url");
  return origin.replace(/\/+$/, "") + "/api";
}
