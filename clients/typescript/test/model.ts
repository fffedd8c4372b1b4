/** A server of one conversation, in memory: enough of Parley's rules to hold a client against. */
import type { Conversation, Message, OwnState, SyncPart } from "../src/types.js";

export type Random = (n: number) => number;

/** mulberry32: whole numbers below n, the same for the same seed. */
export function randomOf(seed: number): Random {
  let a = seed >>> 0;
  return (n) => {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % n;
  };
}

export interface ModelFrame {
  type: string;
  data: any;
}

const time = (n: number): string => `2026-11-23T10:00:00.${String(n).padStart(6, "0")}Z`;
const user = (id: string) => ({ id, username: id, displayName: id.toUpperCase(), avatarUrl: null });

interface Stored {
  message: Message;
  /** Reactions: user → what they gave, in order. */
  by: Map<string, string[]>;
  /** The revision of the last change. */
  changed: number;
}

export class Model {
  readonly me = "me";
  epoch = 1;
  revision = 1;
  stateRevision = 0;
  private name = "Team";
  private members = ["me", "you"];
  private messages: Stored[] = [];
  private lastRead = 0;
  private saved: (() => void)[] = [];

  get lastSeq(): number {
    return this.messages.length;
  }

  /** What the database looked like at earlier moments, for restoring one. */
  save(): void {
    const { revision, name, members, lastRead, stateRevision } = this;
    const messages = this.messages.map((s) => ({ message: { ...s.message }, by: new Map([...s.by].map(([k, v]) => [k, [...v]])), changed: s.changed }));
    this.saved.push(() => Object.assign(this, { revision, name, members, lastRead, stateRevision, messages }));
  }

  /** A failover that loses a tail: the history goes on from an earlier moment, under a new epoch. */
  loseTail(random: Random): void {
    if (this.saved.length === 0) return;
    const i = random(this.saved.length);
    this.saved[i]!();
    this.saved.length = 0;
    this.epoch++;
  }

  // --- what people do: each returns the frames for the client's socket --------------------------------------------------

  send(sender: string, content: string, clientMessageId: string | null, mention: boolean): ModelFrame[] {
    const seq = this.messages.length + 1;
    const message: Message = {
      id: `e${this.epoch}m${seq}`, conversationId: "c", seq, revision: ++this.revision, senderId: sender, content, clientMessageId, replyToId: null,
      createdAt: time(seq), editedAt: null, deletedAt: null, ...(mention && { mentions: { userIds: ["me"] } }),
    };
    this.messages.push({ message, by: new Map(), changed: this.revision });
    const frames: ModelFrame[] = [{ type: "message:new", data: { ...message } }];
    if (sender === this.me && this.move(seq)) frames.push(this.state());
    return frames;
  }

  find(clientMessageId: string): Message | undefined {
    const s = this.messages.find((x) => x.message.senderId === this.me && x.message.clientMessageId === clientMessageId);
    return s && this.own(s);
  }

  edit(i: number, content: string): ModelFrame[] {
    const s = this.messages[i];
    if (!s || s.message.deletedAt) return [];
    s.message = { ...s.message, content, editedAt: time(++this.revision), revision: this.revision };
    s.changed = this.revision;
    return [{ type: "message:updated", data: this.shared(s) }];
  }

  delete(i: number): ModelFrame[] {
    const s = this.messages[i];
    if (!s || s.message.deletedAt) return [];
    const { mentions: _, ...rest } = s.message;
    s.message = { ...rest, content: "", deletedAt: time(++this.revision), revision: this.revision };
    s.by.clear();
    s.changed = this.revision;
    return [{ type: "message:deleted", data: this.shared(s) }];
  }

  react(i: number, who: string, reaction: string): ModelFrame[] {
    const s = this.messages[i];
    if (!s || s.message.deletedAt) return [];
    const had = s.by.get(who) ?? [];
    s.by.set(who, had.includes(reaction) ? had.filter((r) => r !== reaction) : [...had, reaction]);
    s.message = { ...s.message, revision: ++this.revision };
    s.changed = this.revision;
    return [{
      type: "message:reacted",
      data: { conversationId: "c", messageId: s.message.id, revision: this.revision, reactions: this.counts(s), by: [{ userId: who, reactions: s.by.get(who) }] },
    }];
  }

  rename(name: string): ModelFrame[] {
    this.name = name;
    this.revision++;
    const { lastReadSeq, unreadCount, mentionCount, ...shared } = this.conversation();
    return [{ type: "conversation:updated", data: shared }];
  }

  join(who: string): ModelFrame[] {
    if (this.members.includes(who)) {
      this.members = this.members.filter((m) => m !== who);
      this.revision++;
      return [{ type: "conversation:member_removed", data: { conversationId: "c", userId: who, memberCount: this.members.length, revision: this.revision } }];
    }
    this.members = [...this.members, who];
    this.revision++;
    return [{ type: "conversation:member_added", data: { conversationId: "c", members: [this.member(who)], memberCount: this.members.length, revision: this.revision } }];
  }

  /** A change of a kind that this client does not know. */
  unknown(): ModelFrame[] {
    return [{ type: "conversation:changed", data: { conversationId: "c", revision: this.rename(this.name + "!")[0]!.data.revision } }];
  }

  read(seq: number): ModelFrame[] {
    if (!this.move(seq)) return [];
    return [this.state()];
  }

  /** Marks as unread: the marker goes back. */
  unread(seq: number): ModelFrame[] {
    this.lastRead = Math.min(this.lastRead, seq);
    this.stateRevision++;
    return [this.state()];
  }

  private state(): ModelFrame {
    return { type: "state:updated", data: { conversationId: "c", stateRevision: this.stateRevision, ...this.ownState() } };
  }

  private move(seq: number): boolean {
    if (seq <= this.lastRead || seq > this.lastSeq) return false;
    this.lastRead = seq;
    this.stateRevision++;
    return true;
  }

  // --- what is asked ---------------------------------------------------------------------------------------------------

  ownState(): OwnState {
    const mentionCount = this.messages.filter(({ message: m }) => m.seq > this.lastRead && m.senderId !== "me" && m.mentions?.userIds?.includes("me")).length;
    return { lastReadSeq: this.lastRead, unreadCount: this.lastSeq - this.lastRead, mentionCount };
  }

  conversation(): Conversation {
    const last = this.messages[this.messages.length - 1];
    return {
      id: "c", type: "group", name: this.name, members: this.members.map((m) => this.member(m)), memberCount: this.members.length,
      revision: this.revision, lastMessageId: last?.message.id ?? null, lastMessageAt: last?.message.createdAt ?? time(0),
      lastMessage: last ? this.shared(last) : null, lastSeq: this.lastSeq, createdAt: time(0), ...this.ownState(),
    };
  }

  all(): Message[] {
    return this.messages.map((s) => this.own(s));
  }

  after(seq: number, limit: number): Message[] {
    return this.all().slice(seq, seq + limit);
  }

  sync(held: number, o: { window?: number; epoch?: number; most: number }): SyncPart {
    const reset = { reset: true, complete: true, revision: this.revision, conversation: this.conversation() };
    const window = o.window ?? 50;
    const from = o.epoch !== undefined && o.epoch !== this.epoch ? undefined : held;
    // The rule of the contract: more new messages than the window, or another history.
    const fresh = this.messages.filter((s) => this.sentAt(s) > held).length;
    if (from === undefined || (o.window !== undefined && fresh > o.window)) return { ...reset, messages: this.all().slice(-window) };
    const changed = this.messages.filter((s) => s.changed > held).sort((a, b) => a.changed - b.changed);
    const messages = changed.slice(0, o.most).map((s) => this.own(s));
    if (changed.length > o.most) return { messages, revision: changed[o.most - 1]!.changed, complete: false };
    return { messages, revision: this.revision, complete: true, ...(this.revision > held && { conversation: this.conversation() }) };
  }

  private readonly sent = new Map<string, number>();
  private sentAt(s: Stored): number {
    const known = this.sent.get(s.message.id);
    if (known !== undefined) return known;
    this.sent.set(s.message.id, s.message.revision);
    return s.message.revision;
  }

  private member(id: string) {
    return { user: user(id), role: "member" as const, joinedAt: time(1) };
  }

  private counts(s: Stored): { reaction: string; count: number }[] {
    const counts = new Map<string, number>();
    for (const list of s.by.values()) for (const r of list) counts.set(r, (counts.get(r) ?? 0) + 1);
    return [...counts].map(([reaction, count]) => ({ reaction, count })).sort((a, b) => (a.reaction < b.reaction ? -1 : 1));
  }

  private shared(s: Stored): Message {
    this.sentAt(s);
    const reactions = this.counts(s);
    return { ...s.message, ...(reactions.length > 0 && { reactions }) };
  }

  private own(s: Stored): Message {
    const mine = s.by.get(this.me) ?? [];
    return { ...this.shared(s), ...(mine.length > 0 && { mine: [...mine] }) };
  }
}
