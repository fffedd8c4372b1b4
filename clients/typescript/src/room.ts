import { failure, ParleyError, sleep } from "./http.js";
import { begin, ownState, readUpTo, step, type Change, type Draft, type Effect, type Input, type State } from "./machine.js";
import { MessageList } from "./list.js";
import type { Parley } from "./parley.js";
import { Cell, type Readable } from "./store.js";
import type { Attachment, Conversation, Marker, Member, Message, Metadata, Page, Problem, Reaction, Role, User } from "./types.js";

/** What a conversation looks like now. Each part keeps its identity until it changes. */
export interface RoomView {
  readonly id: string;
  /** Undefined until it was read. */
  readonly info: Conversation | undefined;
  /** By seq, without a gap; the newest last. An array that is made when it is read: `list` has parts of it, at the cost of the part. */
  readonly messages: readonly Message[];
  readonly list: MessageList;
  /** What this device still sends, in order; shown after the messages. */
  readonly drafts: readonly Draft[];
  /** How far this viewer has read, what is not yet confirmed included. */
  readonly lastReadSeq: number;
  readonly hasOlder: boolean;
  readonly loadingOlder: boolean;
  /** Ids of those who type now. */
  readonly typing: readonly string[];
  /** How far the others have read, by user id. */
  readonly markers: Readonly<Record<string, Marker>>;
  /** The viewer was removed, or the conversation deleted. */
  readonly gone?: "removed" | "deleted";
  /** Why it could not be read. */
  readonly problem?: Problem;
}

export interface SendOptions {
  replyToId?: string | null;
  metadata?: Metadata;
  mentions?: { userIds?: string[]; all?: boolean };
  /** Ids of `upload`. */
  attachments?: string[];
}

export interface OwnStatePatch {
  notifications?: "all" | "mentions" | "none" | null;
  mutedUntil?: string | null;
  archived?: boolean;
  pinned?: boolean;
  hidden?: boolean;
  unreadFrom?: string;
}

const pageSize = 50;
const readPause = 500;
const typingPause = 3_000;
const typingIdle = 5_000;
const typingLives = 6_000;
const keptClosed = 50;

/** One conversation. `chat.open(id)` returns it; `close()` says that it is no longer shown. */
export class Room implements Readable<RoomView> {
  /** The machine's state; undefined until the conversation was read. */
  state: State | undefined;
  private readonly cell: Cell<RoomView>;
  private openers = 0;
  private early: Change[] = [];
  private reading: Promise<void> | undefined;
  private loads = 0;
  private older: Promise<void> | undefined;
  /** A read is on its way, or was a moment ago. */
  private readSent = false;
  private readonly typers = new Map<string, ReturnType<typeof setTimeout>>();
  private typed = 0;
  private typingTimer: ReturnType<typeof setTimeout> | undefined;
  private waitingDrafts: Draft[] = [];
  private markersRead = false;
  /** Repairs in a row that brought nothing. */
  repairs = 0;

  constructor(private readonly chat: Parley, readonly id: string) {
    this.cell = new Cell<RoomView>({
      id, info: undefined, messages: [], list: new MessageList(1, 0), drafts: [], lastReadSeq: 0, hasOlder: false, loadingOlder: false, typing: [], markers: {},
    });
  }

  get value(): RoomView {
    return this.cell.value;
  }

  subscribe(listener: () => void): () => void {
    return this.cell.subscribe(listener);
  }

  get isOpen(): boolean {
    return this.openers > 0;
  }

  /** @internal */
  open(): this {
    this.openers++;
    void this.fill().catch(() => {});
    return this;
  }

  /** Says that one opener no longer shows it. What it holds is bounded from then on. */
  close(): void {
    if (this.openers > 0) this.openers--;
    if (this.openers === 0) this.dispatch({ t: "trim", keep: keptClosed });
  }

  // --- what comes in -------------------------------------------------------------------------------------------------

  /** @internal */
  dispatch(input: Input): void {
    if (!this.state) return;
    const [next, effects] = step(this.state, input);
    if (next !== this.state) {
      if (next.held > this.state.held) this.repairs = 0;
      this.state = next;
      if (!this.isOpen && next.messages.length > 2 * keptClosed) this.state = step(next, { t: "trim", keep: keptClosed })[0];
      this.refresh();
    }
    for (const e of effects) this.effect(e);
  }

  /** @internal */
  change(c: Change): void {
    if (this.state) this.dispatch({ t: "change", change: c });
    else this.early.push(c);
  }

  /** The conversation as an answer to this viewer brings it. @internal */
  learn(c: Conversation): void {
    if (this.state && !this.state.gone) return this.dispatch({ t: "info", conversation: c });
    this.start(c);
  }

  /** Somebody's new name or picture. @internal */
  meet(user: User): void {
    const s = this.state;
    if (!s?.info.members.some((m) => m.user.id === user.id)) return;
    this.state = { ...s, info: { ...s.info, members: s.info.members.map((m) => (m.user.id === user.id ? { ...m, user } : m)) } };
    this.refresh();
  }

  /** Forgets the copy and begins with c. @internal */
  start(c: Conversation): void {
    const drafts = this.state?.drafts ?? this.waitingDrafts;
    this.state = { ...begin(this.chat.userId!, c), drafts };
    this.waitingDrafts = [];
    const early = this.early;
    this.early = [];
    this.refresh();
    for (const change of early) this.dispatch({ t: "change", change });
    if (this.isOpen) void this.fill().catch(() => {});
  }

  private effect(e: Effect): void {
    switch (e.e) {
      case "repair":
        this.chat.repair(this);
        break;
      case "reload":
        void this.read(true).catch(() => {});
        break;
      case "resend":
        void this.chat.outbox.add(e.draft);
        break;
      case "message":
        this.stopped(e.message.senderId);
        if (e.message.senderId === this.chat.userId && e.message.clientMessageId) {
          this.chat.outbox.settle(this.id, e.message.clientMessageId, e.message);
        }
        this.chat.emit("message", { conversationId: this.id, message: e.message });
        break;
      case "changed":
        this.chat.emit("changed", { conversationId: this.id, message: e.message });
        break;
      case "gone":
        this.chat.emit("gone", { conversationId: this.id, reason: e.reason });
        this.chat.listChanged();
    }
  }

  private refresh(problem?: Problem): void {
    const { state: s } = this;
    const v = this.cell.value;
    const typing = [...this.typers.keys()];
    const drafts = s?.drafts ?? this.waitingDrafts;
    const list = s?.messages ?? v.list;
    this.cell.set({
      id: this.id,
      info: s?.info,
      get messages() {
        return list.all;
      },
      list,
      drafts,
      lastReadSeq: s ? readUpTo(s) : 0,
      hasOlder: list.first > 1,
      loadingOlder: !!s?.load,
      typing: typing.join() === v.typing.join() ? v.typing : typing,
      markers: s?.markers ?? v.markers,
      gone: s?.gone,
      problem,
    });
    if (s && s.info !== v.info) {
      if (s.info.members !== v.info?.members) this.chat.users.learn(s.info.members.map((m) => m.user));
      this.chat.listChanged();
    }
  }

  private rest<T>(method: string, path = "", body?: unknown): Promise<T> {
    return this.chat.request<T>(method, `/conversations/${this.id}${path}`, body);
  }

  /** Reads the conversation; with `anew` the copy is dropped. @internal */
  read(anew = false): Promise<void> {
    this.reading ??= (async () => {
      try {
        const c = await this.rest<Conversation>("GET");
        if (anew) this.start(c);
        else this.learn(c);
      } catch (err) {
        const { problem } = err as ParleyError;
        if (problem?.status === 404) {
          this.early = [];
          if (this.state) this.dispatch({ t: "gone", reason: "removed" });
        }
        this.refresh(problem);
        throw err;
      } finally {
        this.reading = undefined;
      }
    })();
    return this.reading;
  }

  /** Has a screenful at hand. */
  private async fill(): Promise<void> {
    if (!this.chat.userId) return; // once it is known
    if (!this.state) await this.read();
    const s = this.state;
    if (s && s.messages.first > 1 && s.messages.length < pageSize / 2) await this.loadOlder(pageSize - s.messages.length);
    if (!this.markersRead && s && s.info.type === "group") {
      this.markersRead = true;
      await this.rest<{ data: Marker[] }>("GET", "/markers")
        .then((r) => this.dispatch({ t: "markers", markers: r.data }))
        .catch((err) => {
          this.markersRead = (err as ParleyError).status === 404; // an older server
        });
    }
  }

  /** After a reconnect. @internal */
  resume(): void {
    // What REST brought before the first `ready` did not know whose it is.
    if (this.state && this.state.me !== this.chat.userId) this.start(this.state.info);
    this.markersRead = false;
    if (this.isOpen) void this.fill().catch(() => {});
    this.flushRead();
  }

  // --- history -------------------------------------------------------------------------------------------------------

  /** Reads the page before the oldest message held. Calls while one is under way return that one's promise. */
  loadOlder(limit = pageSize): Promise<void> {
    const s = this.state;
    const first = s?.messages.first ?? 1;
    if (this.older || first <= 1) return this.older ?? Promise.resolve();
    const load = ++this.loads;
    this.dispatch({ t: "load", load });
    const from = Math.max(0, first - 1 - limit);
    this.older = (async () => {
      try {
        const page = await this.rest<Page<Message>>("GET", `/messages?afterSeq=${from}&limit=${first - 1 - from}`);
        this.dispatch({ t: "page", load, messages: page.data });
      } catch (err) {
        this.dispatch({ t: "unloaded", load });
        throw err;
      } finally {
        this.older = undefined;
      }
    })();
    return this.older;
  }

  /** Reads older pages until the message of this seq is there. */
  async loadUntil(seq: number): Promise<void> {
    while (this.state && this.state.messages.first > Math.max(1, seq) && !this.state.gone) await this.loadOlder(100);
  }

  /** One message, from the list or from the server: for the quote of a reply. */
  async message(id: string): Promise<Message> {
    return this.state?.messages.find((m) => m.id === id) ?? this.chat.request<Message>("GET", "/messages/" + id);
  }

  // --- sending -------------------------------------------------------------------------------------------------------

  /**
   * Sends, now or once there is a connection. The draft shows at once; the promise resolves when the message is committed
   * and rejects with a ParleyError if it was refused (the draft then stays, `failed`, for `retry` or `discard`).
   */
  send(content: string, options: SendOptions = {}): Promise<Message> {
    const draft: Draft = {
      ...options, clientMessageId: randomId(), conversationId: this.id, content, createdAt: new Date(this.chat.tick()).toISOString(), state: "queued",
    };
    this.quiet();
    this.restore(draft);
    return this.chat.outbox.add(draft);
  }

  /** Shows a draft. @internal */
  restore(draft: Draft): void {
    if (this.state) return this.dispatch({ t: "draft", draft });
    this.waitingDrafts = [...this.waitingDrafts, draft];
    this.refresh();
    if (this.chat.userId) void this.read().catch(() => {});
  }

  /** @internal */
  draft(id: string): Draft | undefined {
    return (this.state?.drafts ?? this.waitingDrafts).find((d) => d.clientMessageId === id);
  }

  /** Sends a failed draft again, under its clientMessageId. */
  retry(clientMessageId: string): Promise<Message> {
    const draft = this.draft(clientMessageId);
    if (draft?.state !== "failed") return Promise.reject(failure("no_draft", "there is no failed draft of this id"));
    this.dispatch({ t: "queued", clientMessageId });
    return this.chat.outbox.add({ ...draft, state: "queued", problem: undefined });
  }

  /** Forgets a draft that was not sent. */
  discard(clientMessageId: string): void {
    this.chat.outbox.discard(this.id, clientMessageId);
    this.dispatch({ t: "discard", clientMessageId });
  }

  async edit(messageId: string, patch: string | { content?: string; metadata?: Metadata | null; mentions?: Message["mentions"]; ifRevision?: number }): Promise<Message> {
    const body = typeof patch === "string" ? { content: patch } : patch;
    const message = await this.chat.request<Message>("PATCH", "/messages/" + messageId, body);
    this.change({ kind: "message", message, revision: message.revision, own: true });
    return message;
  }

  remove(messageId: string): Promise<void> {
    return this.chat.request("DELETE", "/messages/" + messageId);
  }

  /** Adds a reaction, or with `on: false` takes it back. It shows at once. */
  async react(messageId: string, reaction: string, on = true): Promise<void> {
    const path = `/messages/${messageId}/reactions/${encodeURIComponent(reaction)}`;
    this.toggle(messageId, reaction, on);
    try {
      const r = await this.chat.request<{ reactions: Reaction[]; mine: string[]; revision: number }>(on ? "PUT" : "DELETE", path);
      this.dispatch({ t: "reactions", messageId, ...r });
    } catch (err) {
      this.toggle(messageId, reaction, !on);
      throw err;
    }
  }

  private toggle(messageId: string, reaction: string, on: boolean): void {
    const m = this.state?.messages.find((x) => x.id === messageId);
    const mine = m?.mine ?? [];
    if (!m || mine.includes(reaction) === on) return;
    const reactions = (m.reactions ?? []).map((r) => (r.reaction === reaction ? { reaction, count: r.count + (on ? 1 : -1) } : r));
    if (on && !reactions.some((r) => r.reaction === reaction)) reactions.push({ reaction, count: 1 });
    this.dispatch({
      t: "reactions", messageId, reactions: reactions.filter((r) => r.count > 0), revision: Infinity,
      mine: on ? [...mine, reaction] : mine.filter((r) => r !== reaction),
    });
  }

  async pin(messageId: string, on = true): Promise<void> {
    const message = await this.chat.request<Message>(on ? "PUT" : "DELETE", `/messages/${messageId}/pin`);
    this.change({ kind: "message", message, revision: message.revision, own: true });
  }

  async pins(): Promise<Message[]> {
    return (await this.rest<{ data: Message[] }>("GET", "/pins")).data;
  }

  // --- reading and typing --------------------------------------------------------------------------------------------

  /** Marks everything up to a message as read, by default up to the newest held. Many calls become few requests. */
  markRead(upTo?: Message): void {
    const m = upTo ?? this.state?.messages.at(this.state.messages.last);
    if (!m || !this.state || m.seq <= readUpTo(this.state)) return;
    this.dispatch({ t: "read", seq: m.seq });
    this.flushRead();
  }

  private flushRead(): void {
    if (this.readSent || !this.state?.reading) return;
    const { reading, messages } = this.state;
    const m = messages.at(Math.min(reading, messages.last));
    if (!m || this.chat.status.value.state !== "online") return; // resume does it
    this.readSent = true;
    const pause = sleep(readPause);
    this.chat.frame("message:read", { messageId: m.id }).then(
      () => this.dispatch({ t: "readDone", seq: m.seq }),
      async ({ status, problem }: ParleyError) => {
        if (status >= 400 && status < 500 && status !== 429) this.dispatch({ t: "readFailed" });
        await sleep((problem.retryAfterSeconds ?? 0) * 1000);
      },
    ).then(() => pause).then(() => {
      this.readSent = false;
      this.flushRead();
    });
  }

  /** Ids of the others who have read up to this message. */
  seenBy(message: Message): string[] {
    return Object.values(this.state?.markers ?? {}).filter((m) => m.lastReadSeq >= message.seq && m.userId !== message.senderId).map((m) => m.userId);
  }

  /** To be called at each key press: says so at most every 3 seconds, and that it ended after 5 without one. */
  typing(): void {
    clearTimeout(this.typingTimer);
    this.typingTimer = setTimeout(() => this.quiet(), typingIdle);
    if (Date.now() - this.typed < typingPause) return;
    this.typed = Date.now();
    this.chat.post("typing:start", { conversationId: this.id });
  }

  private quiet(): void {
    clearTimeout(this.typingTimer);
    if (this.typed) this.chat.post("typing:stop", { conversationId: this.id });
    this.typed = 0;
  }

  /** @internal */
  types(userId: string, active: boolean): void {
    this.stopped(userId);
    if (active) {
      this.typers.set(userId, setTimeout(() => this.types(userId, false), typingLives));
    }
    this.refresh();
  }

  private stopped(userId: string): void {
    clearTimeout(this.typers.get(userId));
    if (this.typers.delete(userId)) this.refresh();
  }

  /** A read receipt of one message says that everything before it was read too. @internal */
  receipt(messageId: string, userId: string, readAt: string): void {
    const seq = this.state?.messages.find((m) => m.id === messageId)?.seq;
    if (seq) this.dispatch({ t: "markers", markers: [{ userId, lastReadSeq: seq, readAt }] });
  }

  // --- the conversation ----------------------------------------------------------------------------------------------

  private async patch(method: string, path: string, body?: unknown): Promise<Conversation> {
    const c = await this.rest<Conversation>(method, path, body);
    this.learn(c);
    return c;
  }

  /** Name, description, picture, metadata, who may post. */
  update(patch: { name?: string; description?: string | null; avatarUrl?: string | null; metadata?: Metadata | null; posting?: "members" | "admins"; ifRevision?: number }): Promise<Conversation> {
    return this.patch("PATCH", "", patch);
  }

  /** One's own state: mute, archive, pin, hide, notifications, unread. */
  async setOwn(patch: OwnStatePatch): Promise<void> {
    const c = await this.rest<Conversation>("PATCH", "/me", patch);
    this.dispatch({ t: "own", own: ownState(c) });
  }

  members(cursor?: string): Promise<Page<Member>> {
    return this.rest("GET", "/members" + (cursor ? "?cursor=" + encodeURIComponent(cursor) : ""));
  }

  addMembers(userIds: string[]): Promise<unknown> {
    return this.rest("POST", "/members", { userIds });
  }

  removeMember(userId: string): Promise<void> {
    return this.rest("DELETE", "/members/" + userId);
  }

  setRole(userId: string, role: Role): Promise<unknown> {
    return this.rest("PATCH", "/members/" + userId, { role });
  }

  leave(): Promise<void> {
    return this.removeMember(this.chat.userId!);
  }

  /** Deletes the group for everybody. */
  destroy(): Promise<void> {
    return this.rest("DELETE");
  }
}

/** A random id, also where the page is not a secure context. */
export function randomId(): string {
  const uuid = crypto.randomUUID as (() => string) | undefined;
  if (uuid) return uuid.call(crypto);
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
}

export type { Attachment };
