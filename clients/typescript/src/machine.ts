/**
 * One conversation, as a pure state machine: what the server says goes in, the next state and a list of effects come out.
 *
 * The invariant that everything rests on: the state is the fold of all changes up to revision `held`, and nothing after it.
 * A change is applied only if it is the next one; a later one waits in `waiting` while `repair` asks the server for what is
 * between. The only exception are pages of history, which may be newer than `held`; each message therefore never goes back
 * behind its own revision. `clients/scenarios.json` and the property tests hold these rules.
 */
import { MessageList } from "./list.js";
import type {
  Conversation,
  Marker,
  Member,
  Message,
  OwnState,
  Problem,
  Reaction,
  SharedConversation,
  SyncPart,
} from "./types.js";

/** A message that the server has not confirmed, or that is not yet in its place in the list. */
export interface Draft {
  readonly clientMessageId: string;
  readonly conversationId: string;
  readonly content: string;
  readonly replyToId?: string | null;
  readonly metadata?: Record<string, unknown>;
  readonly mentions?: { userIds?: string[]; all?: boolean };
  readonly attachments?: string[];
  /** By this device's clock: for display only. */
  readonly createdAt: string;
  /** `sent`: the server has it, its place in the list is about to be known. `failed`: refused; see `problem`. */
  readonly state: "queued" | "sending" | "sent" | "failed";
  readonly problem?: Problem;
}

/** One revision's change, as a frame brings it. */
export type Change = { readonly revision: number } & (
  /** `own`: from an answer to this viewer, which has `mine`. A frame for everybody has not, and keeps what is known. */
  | { readonly kind: "message"; readonly message: Message; readonly own?: true }
  | { readonly kind: "reacted"; readonly messageId: string; readonly reactions: Reaction[]; readonly by: { userId: string; reactions: string[] }[] }
  | { readonly kind: "conversation"; readonly conversation: SharedConversation }
  | { readonly kind: "added" | "members"; readonly members: Member[]; readonly memberCount?: number }
  | { readonly kind: "removed"; readonly userIds: string[]; readonly memberCount: number }
  | { readonly kind: "deleted" }
  /** A change that only `sync` can tell. */
  | { readonly kind: "unknown" }
);

export interface State {
  readonly id: string;
  readonly me: string;
  /** The revision up to which nothing is missing. */
  readonly held: number;
  readonly info: Conversation;
  readonly messages: MessageList;
  /**
   * A `sync` brought a first part only. It has each message at its last change, so a message that changed again after
   * `held` is not in it: until the last part is here, `held` is where to ask, and no change may be applied on top of it.
   */
  readonly partial: boolean;
  /** Changes after a gap, by revision. */
  readonly waiting: readonly Change[];
  /** Messages after a hole in the list, by seq; only while a `sync` is incomplete. */
  readonly stash: readonly Message[];
  readonly drafts: readonly Draft[];
  /** The older page that is on its way, 0 if none, and the changes that came meanwhile for messages outside of the list. */
  readonly load: number;
  readonly aside: readonly Change[];
  readonly stateRevision: number;
  /** A read marker that was moved here and is not confirmed; 0 if none. */
  readonly reading: number;
  readonly markers: Readonly<Record<string, Marker>>;
  readonly gone?: "removed" | "deleted";
}

export type Input =
  | { t: "change"; change: Change }
  | { t: "sync"; asked: number; part: SyncPart }
  | { t: "load"; load: number }
  | { t: "page"; load: number; messages: Message[] }
  | { t: "unloaded"; load: number }
  | { t: "info"; conversation: Conversation }
  | { t: "own"; stateRevision?: number; own: Partial<OwnState> }
  | { t: "marked"; lastReadSeq: number }
  | { t: "read"; seq: number }
  | { t: "readDone"; seq: number }
  | { t: "readFailed" }
  | { t: "draft"; draft: Draft }
  | { t: "sending"; clientMessageId: string }
  | { t: "queued"; clientMessageId: string }
  | { t: "acked"; clientMessageId: string; message: Message }
  | { t: "failed"; clientMessageId: string; problem: Problem }
  | { t: "discard"; clientMessageId: string }
  | { t: "reactions"; messageId: string; reactions: Reaction[]; mine: string[]; revision: number }
  | { t: "markers"; markers: Marker[] }
  | { t: "trim"; keep: number }
  | { t: "gone"; reason: "removed" | "deleted" };

export type Effect =
  /** Something is missing between `held` and what came: ask `sync`, soon and once. */
  | { e: "repair" }
  /** The copy can't be continued: read the conversation anew. */
  | { e: "reload" }
  /** The draft was acknowledged, but the history lost it: send it again. */
  | { e: "resend"; draft: Draft }
  | { e: "message"; message: Message }
  | { e: "changed"; message: Message }
  | { e: "gone"; reason: "removed" | "deleted" };

/** A conversation as it is first known: nothing of its history is held. */
export function begin(me: string, c: Conversation): State {
  return {
    id: c.id, me, held: c.revision, info: c, messages: new MessageList(c.lastSeq + 1, c.lastSeq), partial: false, waiting: [], stash: [],
    drafts: [], load: 0, aside: [], stateRevision: 0, reading: 0, markers: peerMarker({}, me, c),
  };
}

/** A conversation without messages as a frame brings it, for a viewer to whom it is new. */
export function asViewer(c: SharedConversation): Conversation {
  return { ...c, lastReadSeq: c.lastSeq, unreadCount: 0, mentionCount: 0 };
}

/** The part of a conversation that is the viewer's own. */
export function ownState(c: Conversation): OwnState {
  const keys = ["lastReadSeq", "unreadCount", "mentionCount", "markedUnread", "notifications", "mutedUntil", "archivedAt", "pinnedAt", "hidden"] as const;
  return Object.fromEntries(keys.filter((k) => c[k] !== undefined).map((k) => [k, c[k]])) as unknown as OwnState;
}

/** Applies one input. The state that is returned is the same object if nothing changed. */
export function step(state: State, input: Input): [State, Effect[]] {
  const w = new Work(state);
  w.run(input);
  return [w.s, w.effects];
}

type Writable<T> = { -readonly [K in keyof T]: T[K] };

class Work {
  readonly effects: Effect[] = [];
  constructor(public s: State) {}

  private set(patch: Partial<Writable<State>>): void {
    this.s = { ...this.s, ...patch };
  }

  run(input: Input): void {
    const s = this.s;
    if (s.gone && input.t !== "discard") return;
    switch (input.t) {
      case "change":
        this.change(input.change);
        break;
      case "sync":
        this.sync(input.asked, input.part);
        break;
      case "load":
        this.set({ load: input.load, aside: [] });
        break;
      case "unloaded":
        if (s.load === input.load) this.set({ load: 0, aside: [] });
        break;
      case "page":
        // Another load means that the list begins elsewhere by now.
        if (s.load === input.load) this.page(input.messages);
        break;
      case "info":
        this.viewer(input.conversation);
        if (input.conversation.revision > s.held) this.effects.push({ e: "repair" });
        break;
      case "own": {
        const { stateRevision = s.stateRevision, own } = input;
        if (stateRevision < s.stateRevision) break;
        this.set({ stateRevision });
        this.info({ ...s.info, ...own });
        break;
      }
      case "marked":
        if (input.lastReadSeq > s.info.lastReadSeq) this.info({ ...s.info, lastReadSeq: input.lastReadSeq });
        break;
      case "read":
        if (input.seq > readUpTo(s)) {
          this.set({ reading: input.seq });
          this.info(this.s.info);
        }
        break;
      case "readDone":
        if (s.reading === 0) break; // of a history that was reset since
        if (s.reading <= input.seq) this.set({ reading: 0 });
        this.info({ ...this.s.info, lastReadSeq: Math.max(s.info.lastReadSeq, input.seq) });
        break;
      case "readFailed":
        this.set({ reading: 0 });
        this.info(this.s.info);
        break;
      case "draft":
        if (!s.drafts.some((d) => d.clientMessageId === input.draft.clientMessageId)) {
          if (!s.messages.find((m) => isOf(s, m, input.draft.clientMessageId))) this.set({ drafts: [...s.drafts, input.draft] });
        }
        break;
      case "sending":
      case "queued":
      case "failed":
        this.draft(input.clientMessageId, { state: input.t, problem: input.t === "failed" ? input.problem : undefined });
        break;
      case "discard":
        this.dropDraft(input.clientMessageId);
        break;
      case "acked":
        this.acked(input.clientMessageId, input.message);
        break;
      case "reactions":
        this.reactions(input.messageId, input.reactions, input.mine, input.revision);
        break;
      case "markers":
        this.markers(input.markers);
        break;
      case "trim":
        this.trim(input.keep);
        break;
      case "gone":
        this.gone(input.reason);
    }
  }

  // --- changes -------------------------------------------------------------------------------------------------------

  private change(c: Change): void {
    if (c.revision <= this.s.held) return;
    const i = this.s.waiting.findIndex((w) => w.revision >= c.revision);
    const waiting = [...this.s.waiting];
    if (i < 0) waiting.push(c);
    else waiting.splice(i, waiting[i]!.revision === c.revision ? 1 : 0, c);
    this.set({ waiting });
    this.drain();
  }

  /** Applies what waits, as far as it follows without a gap. */
  private drain(): void {
    while (!this.s.gone) {
      const next = this.s.waiting[0];
      if (!next) return;
      if (next.revision <= this.s.held) {
        this.set({ waiting: this.s.waiting.slice(1) });
        continue;
      }
      if (this.s.partial || next.revision > this.s.held + 1 || next.kind === "unknown") {
        this.effects.push({ e: "repair" });
        return;
      }
      this.set({ waiting: this.s.waiting.slice(1), held: next.revision });
      this.apply(next);
    }
  }

  private apply(c: Change): void {
    const { info, me } = this.s;
    // An answer to this viewer may have brought the conversation as it is after this change.
    const known = c.revision <= info.revision;
    switch (c.kind) {
      case "message":
        this.message(c);
        break;
      case "reacted":
        this.reacted(c);
        break;
      case "conversation":
        if (!known) this.shared(c.conversation);
        break;
      case "added":
      case "members": {
        if (known) break;
        const members = new Map(info.members.map((m) => [m.user.id, m]));
        for (const m of c.members) if (c.kind === "added" || members.has(m.user.id)) members.set(m.user.id, m);
        this.info({ ...info, members: [...members.values()], memberCount: c.memberCount ?? info.memberCount });
        break;
      }
      case "removed":
        if (c.userIds.includes(me)) this.gone("removed");
        else if (!known) this.info({ ...info, members: info.members.filter((m) => !c.userIds.includes(m.user.id)), memberCount: c.memberCount });
        break;
      case "deleted":
        this.gone("deleted");
    }
    if (!this.s.gone) this.raise(c.revision);
  }

  private raise(revision: number): void {
    if (revision > this.s.info.revision) this.set({ info: { ...this.s.info, revision } });
  }

  /** Puts a message where it belongs. */
  private message(change: Change & { kind: "message" }): void {
    const { s } = this;
    const m = change.message;
    if (m.seq < s.messages.first) {
      this.aside(change);
      this.settle(m);
      this.lastMessage(m);
      return;
    }
    const before = s.messages.at(m.seq);
    if (before) {
      if (m.revision >= before.revision) {
        const next = change.own ? m : keepMine(m, before);
        this.replace(next);
        this.recount(before, next);
        this.lastMessage(next);
        this.effects.push({ e: "changed", message: next });
      }
      this.settle(m);
      return;
    }
    const stash = s.stash.filter((x) => x.seq !== m.seq);
    const i = stash.findIndex((x) => x.seq > m.seq);
    stash.splice(i < 0 ? stash.length : i, 0, m);
    this.set({ stash });
    this.unstash();
  }

  /** Appends what follows the list without a hole. */
  private unstash(): void {
    const { s } = this;
    let n = 0;
    while (s.stash[n]?.seq === s.messages.last + 1 + n) n++;
    if (n === 0) return;
    this.set({ stash: s.stash.slice(n) });
    for (const m of s.stash.slice(0, n)) {
      const { info, messages } = this.s;
      const read = readUpTo(this.s);
      // What the conversation counted already is counted again only if the list has all of it.
      const counts = mentions(m, s.me) && m.seq > (messages.first <= read + 1 ? read : Math.max(info.lastReadSeq, info.lastSeq));
      const mine = m.senderId === s.me && m.seq > info.lastReadSeq;
      this.set({ messages: messages.with(m) });
      this.info({
        ...info,
        lastSeq: Math.max(info.lastSeq, m.seq),
        lastReadSeq: mine ? m.seq : info.lastReadSeq,
        ...(counts && info.mentionCount !== undefined && { mentionCount: info.mentionCount + 1 }),
        ...(info.hidden && { hidden: false }),
      }, mine);
      this.lastMessage(m);
      this.settle(m);
      this.effects.push({ e: "message", message: m });
    }
  }

  private lastMessage(m: Message): void {
    const { info } = this.s;
    const now = info.lastMessage;
    if (now && (m.seq < now.seq || (m.seq === now.seq && m.revision < now.revision))) return;
    if (m.seq < info.lastSeq) return;
    this.set({ info: { ...info, lastMessage: m, lastMessageId: m.id, lastMessageAt: m.createdAt } });
  }

  private reacted(c: Change & { kind: "reacted" }): void {
    const { s } = this;
    const before = s.messages.find((m) => m.id === c.messageId);
    if (!before) {
      const j = s.stash.findIndex((m) => m.id === c.messageId);
      if (j < 0) return this.aside(c);
      return this.set({ stash: replaced(s.stash, j, react(s.stash[j]!, c, s.me)) });
    }
    const next = react(before, c, s.me);
    if (next === before) return;
    this.replace(next);
    this.effects.push({ e: "changed", message: next });
  }

  private replace(m: Message): void {
    this.set({ messages: this.s.messages.with(m) });
  }

  private aside(c: Change): void {
    if (this.s.load) this.set({ aside: [...this.s.aside, c] });
  }

  /** An answer to a reaction of this viewer. The frame of its revision brings the same; only before it there is something to do. */
  private reactions(messageId: string, reactions: Reaction[], mine: string[], revision: number): void {
    const old = this.s.messages.find((m) => m.id === messageId);
    if (!old || revision <= this.s.held || revision <= old.revision) return;
    this.replace(withReactions(old, reactions, mine, old.revision));
  }

  // --- sync and pages ------------------------------------------------------------------------------------------------

  private sync(asked: number, part: SyncPart): void {
    if (part.reset) return this.reset(part);
    if (part.revision < asked) {
      // A server without epochs was restored from a backup: its answer starts from nothing.
      this.reset({ ...part, reset: true });
      return;
    }
    if (part.revision < this.s.held) return;
    for (const m of part.messages) this.message({ kind: "message", message: m, revision: m.revision, own: true });
    this.set({ held: part.revision, partial: !part.complete });
    if (part.conversation) this.viewer(part.conversation);
    if (part.complete && this.s.stash.length > 0) {
      this.effects.push({ e: "reload" });
      return;
    }
    if (part.complete) this.drain();
  }

  private reset(part: SyncPart): void {
    const { s } = this;
    const messages = suffix(part.messages);
    const last = messages.length > 0 ? messages[messages.length - 1]!.seq : part.conversation?.lastSeq ?? 0;
    const info = part.conversation ?? { ...s.info, lastSeq: last };
    this.set({
      held: part.revision, partial: !part.complete, messages: MessageList.of(messages, last), stash: [], aside: [], load: 0, stateRevision: 0, reading: 0,
      waiting: [], markers: {},
    });
    // What waits may be of a history that is no more. If it is of this one, it is asked for again.
    if (s.waiting.some((w) => w.revision > part.revision)) this.effects.push({ e: "repair" });
    this.info({ ...info, revision: part.revision });
    this.set({ markers: peerMarker({}, s.me, info) });
    for (const d of this.s.drafts) {
      if (messages.some((m) => isOf(s, m, d.clientMessageId))) this.dropDraft(d.clientMessageId);
      else if (d.state === "sent") {
        this.draft(d.clientMessageId, { state: "queued" });
        this.effects.push({ e: "resend", draft: d });
      }
    }
  }

  private page(page: Message[]): void {
    const { s } = this;
    const before = s.messages.first;
    const older = suffix(page.filter((m) => m.seq < before));
    if (before > 1 && (older.length === 0 || older[older.length - 1]!.seq !== before - 1)) {
      this.set({ load: 0, aside: [] });
      this.effects.push({ e: "reload" });
      return;
    }
    const merged = older.map((m) => s.aside.reduce((now, c) => after(now, c, s.me), m));
    this.set({ messages: merged.reduceRight((list, m) => list.with(m), s.messages), load: 0, aside: [] });
    for (const m of merged) this.settle(m);
    this.recount();
    const newest = this.s.messages.at(this.s.messages.last);
    if (newest) this.lastMessage(newest);
  }

  private trim(keep: number): void {
    const { s } = this;
    const { last, length } = s.messages;
    if (!s.load && length > keep) this.set({ messages: MessageList.of(s.messages.slice(last + 1 - keep), last) });
  }

  // --- the conversation itself ---------------------------------------------------------------------------------------

  /** What all members see, from a frame. What is the viewer's own stays. */
  private shared(c: SharedConversation): void {
    const { info } = this.s;
    const newer = c.lastSeq >= info.lastSeq;
    this.info({
      ...c, ...ownState(info), ...(info.peerLastReadSeq !== undefined && { peerLastReadSeq: info.peerLastReadSeq }), revision: Math.max(c.revision, info.revision), lastSeq: Math.max(c.lastSeq, info.lastSeq),
      ...(!newer && { lastMessage: info.lastMessage, lastMessageId: info.lastMessageId, lastMessageAt: info.lastMessageAt }),
    });
  }

  /** The conversation from an answer to this viewer. It may be older than `held`, or newer. */
  private viewer(c: Conversation): void {
    const { info, held, stateRevision } = this.s;
    const own: Partial<Conversation> = { ...(stateRevision === 0 && ownState(c)), lastReadSeq: Math.max(info.lastReadSeq, c.lastReadSeq) };
    if (c.peerLastReadSeq !== undefined) own.peerLastReadSeq = c.peerLastReadSeq;
    this.set({ markers: peerMarker(this.s.markers, this.s.me, c) });
    if (c.revision < Math.max(held, info.revision)) {
      this.info({ ...info, ...own });
      return;
    }
    this.shared(c);
    this.info({ ...this.s.info, ...own });
  }

  /** Without `recount` the number of unread mentions is right as it is. */
  private info(c: Conversation, recount = true): void {
    const { s } = this;
    const read = Math.max(c.lastReadSeq, s.reading);
    const next: Conversation = { ...c, unreadCount: Math.max(0, c.lastSeq - read) };
    next.markedUnread &&= next.unreadCount > 0;
    if (recount && next.mentionCount !== undefined) next.mentionCount = countMentions({ ...s, info: next });
    if (!same(next, s.info)) this.set({ info: next });
  }

  /** Corrects the number of unread mentions after a message changed from one state to another. */
  private recount(before?: Message, now?: Message): void {
    const { s } = this;
    if (s.info.mentionCount === undefined) return;
    const read = readUpTo(s);
    let mentionCount = s.info.mentionCount;
    if (s.messages.first <= read + 1) mentionCount = countMentions(s);
    else if (before && now && now.seq > read) mentionCount = Math.max(0, mentionCount + Number(mentions(now, s.me)) - Number(mentions(before, s.me)));
    if (mentionCount !== s.info.mentionCount) this.set({ info: { ...s.info, mentionCount } });
  }

  private markers(markers: Marker[]): void {
    let next = this.s.markers;
    for (const m of markers) {
      const old = next[m.userId];
      if (m.userId === this.s.me || (old && old.lastReadSeq >= m.lastReadSeq)) continue;
      next = { ...next, [m.userId]: m };
    }
    if (next !== this.s.markers) this.set({ markers: next });
  }

  private gone(reason: "removed" | "deleted"): void {
    this.set({ gone: reason, waiting: [], stash: [], aside: [], load: 0 });
    this.effects.push({ e: "gone", reason });
  }

  // --- drafts --------------------------------------------------------------------------------------------------------

  private draft(id: string, patch: Partial<Draft>): void {
    const i = this.s.drafts.findIndex((d) => d.clientMessageId === id);
    if (i < 0) return;
    this.set({ drafts: replaced(this.s.drafts, i, { ...this.s.drafts[i]!, ...patch }) });
  }

  private dropDraft(id: string): void {
    const drafts = this.s.drafts.filter((d) => d.clientMessageId !== id);
    if (drafts.length < this.s.drafts.length) this.set({ drafts });
  }

  /** The message stands in the list, or before it: its draft is done. */
  private settle(m: Message): void {
    if (m.senderId === this.s.me && m.clientMessageId) this.dropDraft(m.clientMessageId);
  }

  /** A message at revision r is the change of revision r, so the answer to a send is worth as much as its frame. */
  private acked(id: string, m: Message): void {
    if (m.seq <= this.s.messages.last) {
      this.dropDraft(id);
    } else {
      this.draft(id, { state: "sent", problem: undefined });
    }
    this.change({ kind: "message", message: m, revision: m.revision, own: true });
  }
}

// --- helpers -----------------------------------------------------------------------------------------------------------

const isOf = (s: State, m: Message, clientMessageId: string): boolean => m.senderId === s.me && m.clientMessageId === clientMessageId;

/** How far the viewer has read, what is not confirmed included. */
export const readUpTo = (s: State): number => Math.max(s.info.lastReadSeq, s.reading);

const mentions = (m: Message, me: string): boolean =>
  m.senderId !== me && !m.deletedAt && !!(m.mentions?.all || m.mentions?.userIds?.includes(me));

/** Exact if the list reaches back to the first unread message. */
function countMentions(s: State): number {
  const read = readUpTo(s);
  if (read >= s.info.lastSeq) return 0;
  if (s.messages.first > read + 1) return s.info.mentionCount ?? 0;
  return s.messages.slice(read + 1).filter((m) => mentions(m, s.me)).length;
}

function replaced<T>(list: readonly T[], i: number, item: T): T[] {
  const copy = list.slice();
  copy[i] = item;
  return copy;
}

/** The longest run without a gap at the end, by seq. */
function suffix(messages: Message[]): Message[] {
  const sorted = [...messages].sort((a, b) => a.seq - b.seq);
  let i = sorted.length - 1;
  while (i > 0 && sorted[i - 1]!.seq === sorted[i]!.seq - 1) i--;
  return sorted.slice(Math.max(0, i));
}

function keepMine(m: Message, before: Message): Message {
  if (!before.mine) return m;
  const mine = before.mine.filter((r) => m.reactions?.some((x) => x.reaction === r));
  return mine.length > 0 ? { ...m, mine } : m;
}

function withReactions(m: Message, reactions: Reaction[], mine: string[] | undefined, revision: number): Message {
  const { reactions: _, mine: __, ...rest } = m;
  return { ...rest, revision, ...(reactions.length > 0 && { reactions }), ...(mine && mine.length > 0 && { mine }) };
}

function react(m: Message, c: Change & { kind: "reacted" }, me: string): Message {
  const by = c.by.find((b) => b.userId === me);
  if (c.revision < m.revision || m.deletedAt) return m;
  return withReactions(m, c.reactions, by ? by.reactions : m.mine, c.revision);
}

/** A message of a page after a change that came while the page was on its way. */
function after(m: Message, c: Change, me: string): Message {
  if (c.kind === "reacted" && c.messageId === m.id) return react(m, c, me);
  if (c.kind === "message" && c.message.id === m.id && c.message.revision > m.revision) return c.own ? c.message : keepMine(c.message, m);
  return m;
}

function peerMarker(markers: State["markers"], me: string, c: Conversation): State["markers"] {
  if (c.type !== "direct" || typeof c.peerLastReadSeq !== "number") return markers;
  const peer = c.members.find((m) => m.user.id !== me)?.user.id;
  if (!peer || (markers[peer]?.lastReadSeq ?? -1) >= c.peerLastReadSeq) return markers;
  return { ...markers, [peer]: { userId: peer, lastReadSeq: c.peerLastReadSeq, readAt: null } };
}

function same(a: object, b: object): boolean {
  const x = Object.entries(a);
  return x.length === Object.keys(b).length && x.every(([k, v]) => (b as Record<string, unknown>)[k] === v);
}

/** The change that a frame of the server brings, with its conversation; undefined if it brings none. */
export function changeOf(type: string, data: any): [conversationId: string, change: Change] | undefined {
  const { conversationId: id, revision } = data ?? {};
  switch (type) {
    case "message:new":
    case "message:updated":
    case "message:deleted":
      return [id, { kind: "message", message: data, revision }];
    case "message:reacted":
      return [id, { ...data, kind: "reacted", reactions: data.reactions ?? [], by: data.by ?? [] }];
    case "conversation:created":
    case "conversation:updated":
      return [data.id, { kind: "conversation", conversation: data, revision }];
    case "conversation:member_added":
      return [id, { ...data, kind: "added" }];
    case "conversation:member_updated":
      return [id, { ...data, kind: "members" }];
    case "conversation:member_removed":
      return [id, { ...data, kind: "removed", userIds: data.userIds ?? [data.userId] }];
    case "conversation:deleted":
      return [id, { kind: "deleted", revision }];
    case "conversation:changed":
      return [id, { kind: "unknown", revision }];
  }
  return undefined;
}
