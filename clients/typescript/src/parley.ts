import { Files } from "./files.js";
import { Http, ParleyError, sleep, type Fetch } from "./http.js";
import { asViewer, changeOf, type Draft } from "./machine.js";
import { indexedDBStore, Outbox, type DraftStore } from "./outbox.js";
import { PresenceBook, Users } from "./people.js";
import { Push } from "./push.js";
import { randomId, Room } from "./room.js";
import { Socket, type Status, type WebSocketConstructor } from "./socket.js";
import { Cell, Emitter, type Readable } from "./store.js";
import { Sync } from "./sync.js";
import { baseOf, Tokens, type TokenFunction } from "./token.js";
import type { Conversation, Frame, Marker, Message, Metadata, OwnState, OwnUser, Page, Presence, Ready, Unread, User } from "./types.js";

export interface ParleyOptions {
  /** The server's address, `https://chat.example.com`; by default the page's own. */
  url?: string;
  /** Where access tokens come from: a function, or `session.token`. */
  token: TokenFunction;
  /** 1–64 of `A-Z a-z 0-9 _ -`; by default made once and kept in localStorage. */
  deviceId?: string;
  /** For Node 20: `import WebSocket from "ws"`. */
  WebSocket?: unknown;
  fetch?: Fetch;
  /** Where drafts outlive a reload; `null` for nowhere. By default IndexedDB, if there is one. */
  outbox?: DraftStore | null;
}

/** The events of `chat.on`. `frame` is every frame, as it passes. */
export interface ParleyEvents {
  message: { conversationId: string; message: Message };
  changed: { conversationId: string; message: Message };
  gone: { conversationId: string; reason: "removed" | "deleted" };
  typing: { conversationId: string; userId: string; active: boolean };
  friend: { type: "friend:requested" | "friend:accepted" | "friend:removed"; user: User };
  frame: { direction: "in" | "out"; frame: Frame };
  error: ParleyError;
}

const storagePatience = 3_000;

/** One user's chat: a connection, the conversations, the people in them. */
export class Parley {
  readonly status: Readable<Status>;
  /** Whether all that was committed before the present connection is here. */
  readonly synced: Readable<boolean>;
  readonly me: Readable<OwnUser | undefined>;
  /** Those neither archived nor hidden: pinned first, then the most recently active. */
  readonly conversations: Readable<readonly Conversation[]>;
  /** All that are held, archived and hidden ones too. */
  readonly allConversations: Readable<readonly Conversation[]>;
  /** Totals over what is neither muted, archived nor hidden. */
  readonly unread: Readable<Unread>;
  readonly users: Users;
  readonly files: Files;
  readonly push: Push;
  readonly deviceId: string;

  /** @internal */
  readonly outbox: Outbox;
  private readonly presenceBook: PresenceBook;
  private readonly socket: Socket;
  private readonly http: Http;
  private readonly tokens: Tokens;
  private readonly rooms = new Map<string, Room>();
  private readonly sync: Sync;
  private readonly emitter = new Emitter<ParleyEvents>();
  private readonly own = new Cell<OwnUser | undefined>(undefined);
  private readonly shown = new Cell<readonly Conversation[]>([]);
  private readonly all = new Cell<readonly Conversation[]>([]);
  private readonly totals = new Cell<Unread>({ messages: 0, mentions: 0, conversations: 0 });
  private id: string | undefined;
  private dirty = false;
  private last = 0;
  private focused: { conversationId: string | undefined } | undefined;
  private focusTimer: ReturnType<typeof setInterval> | undefined;

  constructor(options: ParleyOptions) {
    const base = baseOf(options.url);
    const fetcher: Fetch = options.fetch ?? ((u, i) => fetch(u, i));
    const ws = (options.WebSocket ?? globalThis.WebSocket) as WebSocketConstructor | undefined;
    if (!ws) throw new TypeError("there is no WebSocket here: pass one as options.WebSocket");
    this.deviceId = options.deviceId ?? deviceId();
    this.tokens = new Tokens(options.token, "parley:" + base);
    this.http = new Http(base, fetcher, this.tokens);
    this.socket = new Socket({
      base, deviceId: this.deviceId, WebSocket: ws, fetch: fetcher, tokens: this.tokens,
      onReady: (r) => void this.ready(r),
      onFrame: (f) => this.receive(f),
      onDown: () => {
        this.outbox.stop();
        this.sync.down();
      },
      onTraffic: (direction, frame) => this.emitter.emit("frame", { direction, frame }),
    });
    this.outbox = new Outbox({
      store: options.outbox === null ? undefined : (options.outbox ?? indexedDBStore()),
      send: (d) => this.deliver(d),
      report: (d, outcome) => this.room(d.conversationId).dispatch({ clientMessageId: d.clientMessageId, ...outcome }),
    });
    this.sync = new Sync(this, this.rooms);
    this.users = new Users(this);
    this.presenceBook = new PresenceBook(this);
    this.files = new Files(this, fetcher);
    this.push = new Push(this);
    this.status = this.socket.status;
    this.synced = this.sync.done;
    this.me = this.own;
    this.conversations = this.shown;
    this.allConversations = this.all;
    this.unread = this.totals;
  }

  /** The id of the user, once the server has said it. */
  get userId(): string | undefined {
    return this.id;
  }

  /** Connects, and stays connected until `close` or until the session is over (see `status`). */
  connect(): this {
    this.socket.connect();
    return this;
  }

  /** Ends the connection. What was not sent is kept for the next time. */
  close(): void {
    clearInterval(this.focusTimer);
    this.socket.close();
    this.tokens.close();
  }

  /** Calls the handler at each event of a type. It returns the function that ends it. */
  on<K extends keyof ParleyEvents>(type: K, handler: (event: ParleyEvents[K]) => void): () => void {
    return this.emitter.on(type, handler);
  }

  /** A conversation to show. Each `open` wants a `close`. */
  open(id: string): Room {
    return this.room(id).open();
  }

  /** Reads the next hundred conversations of a list that is longer than what is held at the start. */
  loadMoreConversations(): Promise<void> {
    return this.sync.more();
  }

  /** Whether somebody is there; live while it is subscribed to. */
  presence(userId: string): Readable<Presence> {
    return this.presenceBook.get(userId);
  }

  /** A profile; read with others in one request, and kept. */
  user(userId: string): Readable<User | undefined> {
    return this.users.get(userId);
  }

  /** Any route under /api, with the user's token: `chat.request("GET", "/friends")`. It rejects with a ParleyError. */
  request<T = unknown>(method: string, path: string, body?: unknown): Promise<T> {
    return this.http.request<T>(method, path, body);
  }

  /** The conversation with one other; the same one each time. */
  async createDirect(userId: string): Promise<Conversation> {
    return this.created({ type: "direct", memberIds: [userId] });
  }

  /** A new group. One `clientId` makes one group, however often it is asked for. */
  async createGroup(group: { name: string; memberIds: string[]; description?: string; metadata?: Metadata; clientId?: string }): Promise<Conversation> {
    return this.created({ type: "group", ...group });
  }

  private async created(body: object): Promise<Conversation> {
    const c = await this.request<Conversation>("POST", "/conversations", body);
    this.room(c.id).learn(c);
    return c;
  }

  async search(q: string, limit = 20): Promise<User[]> {
    const { data } = await this.request<{ data: User[] }>("GET", `/users/search?q=${encodeURIComponent(q)}&limit=${limit}`);
    this.users.learn(data);
    return data;
  }

  async updateMe(patch: { displayName?: string; avatarUrl?: string | null }): Promise<OwnUser> {
    this.own.set(await this.request<OwnUser>("PATCH", "/users/me", patch));
    return this.own.value!;
  }

  /** Says that the app is in front, with this conversation or none, or (`false`) that it is not: pushes depend on it. */
  focus(conversationId: string | null | false): void {
    clearInterval(this.focusTimer);
    const was = this.focused;
    this.focused = conversationId === false ? undefined : { conversationId: conversationId ?? undefined };
    if (this.focused) this.focusTimer = setInterval(() => this.sayFocus(), 30_000);
    if (this.focused || was) this.sayFocus();
  }

  private sayFocus(): void {
    if (this.sync.modern) this.post("focus", { active: this.focused !== undefined, ...this.focused });
  }

  /** A conversation as far as it is held, without opening it: nothing is read for it. */
  peek(id: string): Room {
    return this.room(id);
  }

  // --- for the parts -------------------------------------------------------------------------------------------------

  /** @internal */
  room(id: string): Room {
    let room = this.rooms.get(id);
    if (!room) this.rooms.set(id, (room = new Room(this, id)));
    return room;
  }

  /** @internal */
  emit<K extends keyof ParleyEvents>(type: K, event: ParleyEvents[K]): void {
    this.emitter.emit(type, event);
  }

  /** @internal */
  repair(room: Room): void {
    this.sync.repair(room);
  }

  /** Sends a frame and returns its answer. @internal */
  frame<T = unknown>(type: string, data?: unknown): Promise<T> {
    return this.socket.request<T>(type, data);
  }

  /** @internal */
  post(type: string, data: unknown): void {
    this.socket.post(type, data);
  }

  /** This device's time, but never the same twice: it orders drafts. @internal */
  tick(): number {
    return (this.last = Math.max(Date.now(), this.last + 1));
  }

  /** @internal */
  listChanged(): void {
    if (this.dirty) return;
    this.dirty = true;
    queueMicrotask(() => this.relist());
  }

  private relist(): void {
    this.dirty = false;
    const all: Conversation[] = [];
    for (const { state } of this.rooms.values()) if (state && !state.gone) all.push(state.info);
    const at = (c: Conversation): string => c.pinnedAt ?? "";
    all.sort((a, b) => order(at(b), at(a)) || order(b.lastMessageAt, a.lastMessageAt) || order(b.id, a.id));
    const shown = all.filter((c) => !c.archivedAt && !c.hidden);
    keep(this.all, all);
    keep(this.shown, shown);
    const t: Unread = { messages: 0, mentions: 0, conversations: 0 };
    for (const c of shown) {
      if (isMuted(c)) continue;
      t.messages += c.unreadCount;
      t.mentions += c.mentionCount ?? 0;
      t.conversations += Number(c.unreadCount > 0 || !!c.markedUnread);
    }
    const now = this.totals.value;
    if (now.messages !== t.messages || now.mentions !== t.mentions || now.conversations !== t.conversations) this.totals.set(t);
  }

  // --- what the socket brings ----------------------------------------------------------------------------------------

  private async ready(r: Ready): Promise<void> {
    this.id = r.userId;
    this.sync.ready(r);
    this.presenceBook.resume();
    this.users.resume();
    for (const room of this.rooms.values()) room.resume();
    if (this.focused) this.sayFocus();
    if (!this.own.value) {
      void this.request<OwnUser>("GET", "/users/me").then((u) => {
        this.own.set(u);
        this.users.learn([u]);
      }, () => {});
    }
    const kept = this.outbox.load(r.userId).then((drafts) => {
      for (const d of drafts) {
        this.room(d.conversationId).restore(d.state === "failed" ? d : { ...d, state: "queued" });
        if (d.state !== "failed") void this.outbox.add(d);
      }
    });
    // Some browsers' storage never answers.
    await Promise.race([kept, sleep(storagePatience)]);
    if (this.status.value.state === "online") this.outbox.start();
  }

  private deliver(d: Draft): Promise<Message> {
    const { conversationId, content, clientMessageId, replyToId, metadata, mentions, attachments } = d;
    return this.frame<Message>("message:send", { conversationId, content, clientMessageId, replyToId, metadata, mentions, attachments });
  }

  private receive(f: Frame): void {
    const d = (f.data ?? {}) as any;
    const known = this.rooms.get(d.conversationId);
    const changed = changeOf(f.type, d);
    if (changed) {
      const [id, change] = changed;
      const room = this.rooms.get(id);
      if (room?.state && !room.state.gone) return room.change(change);
      // With messages in it, it is read below: the frame does not say how far this viewer has read.
      if (f.type === "conversation:created" && !d.lastSeq) return this.room(id).start(asViewer(d as Conversation));
      if (change.kind === "removed" || change.kind === "deleted") return;
      if (room?.state?.gone && change.revision <= room.state.held) return;
      // A conversation that is not held: it is read, and the change waits for it.
      this.room(id).change(change);
      return void this.room(id).read().catch(() => {});
    }
    switch (f.type) {
      case "conversation:read":
        return known?.dispatch({ t: "marked", lastReadSeq: d.lastReadSeq });
      case "state:updated": {
        const { conversationId: _, stateRevision, ...own } = d as OwnState & { conversationId: string; stateRevision: number };
        this.sync.ownRevision(stateRevision);
        return known?.dispatch({ t: "own", stateRevision, own });
      }
      case "conversation:markers":
        return known?.dispatch({ t: "markers", markers: d.markers as Marker[] });
      case "receipt:read":
        return known?.receipt(d.messageId, d.userId, d.readAt);
      case "typing":
        known?.types(d.userId, d.active);
        return this.emit("typing", d);
      case "presence:online":
      case "presence:offline":
        return this.presenceBook.learn([{ userId: d.userId, status: f.type === "presence:online" ? "online" : "offline", lastSeenAt: d.lastSeenAt }]);
      case "user:updated":
        return this.userUpdated(d.user);
      case "friend:requested":
      case "friend:accepted":
      case "friend:removed":
        return this.emit("friend", { type: f.type, user: d.user });
      case "resync":
        return this.sync.resync(d.withinSeconds ?? 5);
      case "error":
        return this.emit("error", new ParleyError(d));
    } // any other is of a newer server, and nothing to this one
  }

  private userUpdated(user: User): void {
    this.users.learn([user]);
    for (const room of this.rooms.values()) room.meet(user);
    if (user.id === this.id && this.own.value) this.own.set({ ...this.own.value, ...user });
  }
}

/** Whether a conversation is muted now. */
export function isMuted(c: Pick<Conversation, "mutedUntil">): boolean {
  return !!c.mutedUntil && (c.mutedUntil === "forever" || Date.parse(c.mutedUntil) > Date.now());
}

const order = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

/** Sets the list, unless it is the same. */
function keep(cell: Cell<readonly Conversation[]>, list: Conversation[]): void {
  if (list.length !== cell.value.length || list.some((c, i) => c !== cell.value[i])) cell.set(list);
}

function deviceId(): string {
  try {
    const kept = localStorage.getItem("parley.device");
    if (kept) return kept;
    const made = randomId();
    localStorage.setItem("parley.device", made);
    return made;
  } catch {
    return randomId();
  }
}

export type { Page };
