import { failure, ParleyError, sleep } from "./http.js";
import type { Draft } from "./machine.js";
import type { Message, Problem } from "./types.js";

/** Where drafts outlive a reload. */
export interface DraftStore {
  all(userId: string): Promise<Draft[]>;
  put(userId: string, draft: Draft): Promise<void>;
  delete(userId: string, clientMessageId: string): Promise<void>;
}

/** Keeps drafts in IndexedDB. Without one, or if it fails (private windows, full disks), nothing is kept. */
export function indexedDBStore(name = "parley"): DraftStore | undefined {
  if (typeof indexedDB === "undefined") return undefined;
  let opened: Promise<IDBDatabase> | undefined;
  const wait = <T>(r: IDBRequest<T>): Promise<T> =>
    new Promise((resolve, reject) => {
      r.onsuccess = () => resolve(r.result);
      r.onerror = () => reject(r.error);
    });
  const run = async <T>(mode: IDBTransactionMode, fn: (s: IDBObjectStore) => IDBRequest<T>): Promise<T> => {
    opened ??= (() => {
      const r = indexedDB.open(name, 1);
      r.onupgradeneeded = () => void r.result.createObjectStore("drafts");
      return wait(r);
    })();
    return wait(fn((await opened).transaction("drafts", mode).objectStore("drafts")));
  };
  // Keys are [user, creation time, id]: in the order in which they were written.
  const range = (userId: string): IDBKeyRange => IDBKeyRange.bound([userId], [userId, []]);
  const keys = new Map<string, IDBValidKey>();
  return {
    all: async (userId) => {
      const found = (await run("readonly", (s) => s.getAll(range(userId)))) as Draft[];
      for (const d of found) keys.set(d.clientMessageId, [userId, d.createdAt, d.clientMessageId]);
      return found;
    },
    put: async (userId, d) => {
      const key = [userId, d.createdAt, d.clientMessageId];
      keys.set(d.clientMessageId, key);
      await run("readwrite", (s) => s.put(d, key));
    },
    delete: async (_, id) => {
      const key = keys.get(id);
      keys.delete(id);
      if (key) await run("readwrite", (s) => s.delete(key));
    },
  };
}

interface Entry {
  draft: Draft;
  done?: { resolve(m: Message): void; reject(err: ParleyError): void };
  /** Ends the wait for the answer to the send: the message came as a frame. */
  arrived?: (m: Message) => void;
}

/** What became of a draft: an input of the machine, but for the draft's id. */
export type Outcome = { t: "queued" | "sending" } | { t: "acked"; message: Message } | { t: "failed"; problem: Problem };

export interface OutboxOptions {
  store: DraftStore | undefined;
  /** Sends, and resolves with the message once it is committed. */
  send(draft: Draft): Promise<Message>;
  report(draft: Draft, outcome: Outcome): void;
}

const firstRetry = 1_000;
const longestRetry = 30_000;

/**
 * What is still to be sent: in order in each conversation, one at a time, conversations beside each other. Each draft keeps
 * its clientMessageId over all tries, so that a lost answer never makes a second message.
 */
export class Outbox {
  private readonly queues = new Map<string, Entry[]>();
  private readonly busy = new Set<string>();
  /** Ends the pauses before the next try. */
  private readonly pauses = new Map<string, () => void>();
  private userId = "";
  private online = false;

  constructor(private readonly o: OutboxOptions) {}

  /** Reads what an earlier run of the app left. Returns drafts that are not yet queued, failed ones too. */
  async load(userId: string): Promise<Draft[]> {
    if (this.userId === userId) return [];
    const early = this.userId === "" ? [...this.queues.values()].flat() : [];
    this.userId = userId;
    for (const e of early) void this.o.store?.put(userId, e.draft).catch(() => {});
    const kept = await (this.o.store?.all(userId) ?? Promise.resolve([])).catch(() => [] as Draft[]);
    return kept.filter((d) => !early.some((e) => e.draft.clientMessageId === d.clientMessageId));
  }

  /** Puts a draft at the end of its conversation's queue. The promise is that of its message. */
  add(draft: Draft): Promise<Message> {
    const sent = new Promise<Message>((resolve, reject) => {
      const queue = this.queues.get(draft.conversationId) ?? [];
      this.queues.set(draft.conversationId, queue);
      queue.push({ draft, done: { resolve, reject } });
    });
    sent.catch(() => {}); // the draft's state says it too
    if (this.userId) void this.o.store?.put(this.userId, draft).catch(() => {});
    void this.pump(draft.conversationId);
    return sent;
  }

  /** The message was seen: nothing is left to do for its draft. */
  settle(conversationId: string, clientMessageId: string, message: Message): void {
    const entry = this.queues.get(conversationId)?.find((e) => e.draft.clientMessageId === clientMessageId);
    if (entry?.arrived) entry.arrived(message);
    else if (entry) this.finish(entry, message);
    else this.forget(clientMessageId);
  }

  discard(conversationId: string, clientMessageId: string): void {
    const queue = this.queues.get(conversationId);
    const i = queue?.findIndex((e) => e.draft.clientMessageId === clientMessageId) ?? -1;
    if (queue && i >= 0) queue.splice(i, 1)[0]!.done?.reject(failure("discarded", "the draft was discarded"));
    this.forget(clientMessageId);
  }

  start(): void {
    this.online = true;
    for (const id of this.queues.keys()) void this.pump(id);
  }

  stop(): void {
    this.online = false;
    for (const end of this.pauses.values()) end();
  }

  private forget(clientMessageId: string): void {
    if (this.userId) void this.o.store?.delete(this.userId, clientMessageId).catch(() => {});
  }

  private async pump(id: string): Promise<void> {
    if (this.busy.has(id)) return;
    this.busy.add(id);
    for (let tries = 0; this.online; ) {
      const entry = this.queues.get(id)?.[0];
      if (!entry) break;
      this.o.report(entry.draft, { t: "sending" });
      try {
        const arrived = new Promise<Message>((resolve) => (entry.arrived = resolve));
        this.finish(entry, await Promise.race([this.o.send(entry.draft), arrived]));
        tries = 0;
      } catch (err) {
        entry.arrived = undefined;
        const { problem } = err instanceof ParleyError ? err : failure("internal", String(err));
        if (!passing(problem)) {
          this.fail(entry, problem);
          continue;
        }
        this.o.report(entry.draft, { t: "queued" });
        if (!this.online) break;
        const bound = Math.min(longestRetry, firstRetry * 2 ** tries++);
        const wait = (problem.retryAfterSeconds ?? 0) * 1000 + bound * Math.random();
        await Promise.race([sleep(wait), new Promise<void>((r) => this.pauses.set(id, r))]);
      }
    }
    this.busy.delete(id);
  }

  private finish(entry: Entry, message: Message): void {
    if (!this.remove(entry)) return;
    entry.done?.resolve(message);
    this.forget(entry.draft.clientMessageId);
    this.o.report(entry.draft, { t: "acked", message });
  }

  private fail(entry: Entry, problem: Problem): void {
    if (!this.remove(entry)) return;
    if (this.userId) void this.o.store?.put(this.userId, { ...entry.draft, state: "failed", problem }).catch(() => {});
    this.o.report(entry.draft, { t: "failed", problem });
    entry.done?.reject(new ParleyError(problem));
  }

  private remove(entry: Entry): boolean {
    const queue = this.queues.get(entry.draft.conversationId);
    const i = queue?.indexOf(entry) ?? -1;
    if (i >= 0) queue!.splice(i, 1);
    return i >= 0;
  }
}

/** Problems that pass: no answer, limits, a server that is down, a token that has to be another. */
const passing = (p: Problem): boolean => p.status === 0 || p.status === 401 || p.status === 429 || p.status >= 500;
