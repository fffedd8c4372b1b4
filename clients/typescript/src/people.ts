import type { Parley } from "./parley.js";
import { Cell, type Readable } from "./store.js";
import type { ParleyError } from "./http.js";
import type { Presence, User } from "./types.js";

const batchPause = 20;
const usersAtOnce = 100;
const presenceAtOnce = 200;
const unwatchPause = 5_000;

/** Profiles, read in batches and kept. */
export class Users {
  private readonly cells = new Map<string, Cell<User | undefined>>();
  private readonly wanted = new Set<string>();
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly chat: Parley) {}

  /** A profile; undefined while it is read, and if there is none. */
  get(id: string): Readable<User | undefined> {
    let cell = this.cells.get(id);
    if (!cell) {
      this.cells.set(id, (cell = new Cell<User | undefined>(undefined)));
      this.wanted.add(id);
      this.resume();
    }
    return cell;
  }

  /** Takes profiles that came with something else. */
  learn(users: User[]): void {
    for (const u of users) {
      const cell = this.cells.get(u.id);
      this.wanted.delete(u.id);
      if (!cell) this.cells.set(u.id, new Cell<User | undefined>(u));
      else if (JSON.stringify(cell.value) !== JSON.stringify(u)) cell.set(u);
    }
  }

  private async fetch(): Promise<void> {
    this.timer = undefined;
    const ids = [...this.wanted].slice(0, usersAtOnce);
    for (const id of ids) this.wanted.delete(id);
    try {
      this.learn((await this.chat.request<{ data: User[] }>("GET", "/users?ids=" + ids.join())).data);
    } catch (err) {
      if ((err as ParleyError).status !== 400) for (const id of ids) this.wanted.add(id);
      return; // the next `get` or connection tries again
    }
    this.resume();
  }

  /** Plans the next request, if something is wanted. @internal */
  resume(): void {
    if (this.wanted.size > 0) this.timer ??= setTimeout(() => void this.fetch(), batchPause);
  }
}

/** Who is there. A user is watched while somebody subscribes to the value. */
class PresenceCell extends Cell<Presence> {
  watchers = 0;
  constructor(userId: string, private readonly changed: (cell: PresenceCell) => void) {
    super({ userId, status: "offline", lastSeenAt: null });
  }

  override subscribe(listener: () => void): () => void {
    const end = super.subscribe(listener);
    this.watchers++;
    this.changed(this);
    let ended = false;
    return () => {
      if (ended) return;
      ended = true;
      end();
      this.watchers--;
      this.changed(this);
    };
  }
}

export class PresenceBook {
  private readonly cells = new Map<string, PresenceCell>();
  private readonly held = new Set<string>();
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly chat: Parley) {}

  get(userId: string): Readable<Presence> {
    let cell = this.cells.get(userId);
    if (!cell) this.cells.set(userId, (cell = new PresenceCell(userId, (c) => this.plan(c.watchers > 0 ? batchPause : unwatchPause))));
    return cell;
  }

  /** @internal */
  learn(list: Presence[]): void {
    for (const p of list) {
      const cell = this.get(p.userId) as PresenceCell;
      if (cell.value.status !== p.status || cell.value.lastSeenAt !== p.lastSeenAt) cell.set(p);
    }
  }

  /** A new socket watches nobody. @internal */
  resume(): void {
    this.held.clear();
    this.plan(0);
  }

  private plan(pause: number): void {
    clearTimeout(this.timer);
    // What is refused is asked for again later, what has no socket by the next one.
    this.timer = setTimeout(() => void this.update().catch((err: ParleyError) => err.status && this.plan(unwatchPause)), pause);
    (this.timer as { unref?: () => void }).unref?.();
  }

  /** Subscribes to those who are watched, in pieces; the server takes 200 on a socket. The others are asked once. */
  private async update(): Promise<void> {
    const watched = [...this.cells.values()].filter((c) => c.watchers > 0).map((c) => c.value.userId);
    const gone = [...this.held].filter((id) => !watched.includes(id));
    if (gone.length > 0) {
      for (const id of gone) this.held.delete(id);
      await this.chat.frame("presence:unsubscribe", { userIds: gone });
    }
    const missing = watched.filter((id) => !this.held.has(id));
    const live = missing.splice(0, presenceAtOnce - this.held.size);
    if (live.length > 0) {
      this.learn((await this.chat.frame<{ presence: Presence[] }>("presence:subscribe", { userIds: live })).presence);
      for (const id of live) this.held.add(id);
    }
    while (missing.length > 0) {
      const some = missing.splice(0, 100);
      this.learn((await this.chat.request<{ data: Presence[] }>("GET", "/presence?userIds=" + some.join())).data);
    }
  }
}
