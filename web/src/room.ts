import type { Conversation, Draft, Message, Room, RoomView, User } from "@parley-chat/client";
import type { Host } from "./host.js";
import { avatar } from "./avatar.js";
import { Composer } from "./composer.js";
import { attempt, confirmed, elementOf, fill, h, icon, iconButton, reconcile, say, scheduled, type Item } from "./dom.js";
import { draftRow, messageRow, type RowActions, type RowContext } from "./message.js";
import { details, profile } from "./people.js";
import { chooseReaction, quick } from "./react.js";
import { mentionedNames } from "./mention.js";
import { dayOf, dayStart, lastSeen, nameOf, people, peerOf, plural, titleOf } from "./text.js";

const mostRows = 150; // in the DOM at once
const firstRows = 60;
const stepRows = 50;
const near = 600; // pixels to an end of the list at which it is continued
const atBottom = 80;
const together = 5 * 60_000;

/** One conversation. Of its messages a window is in the DOM: it moves as one scrolls, and what one sees stays where it is. */
export class RoomPane implements RowActions {
  readonly el: HTMLElement;
  readonly chat;
  private readonly room: Room;
  private readonly head = h("header", { class: "bar" });
  private readonly list = h("ol", { class: "messages" });
  private readonly scroll = h("div", { class: "scroll log", role: "log", "aria-live": "off", "aria-label": "Messages", tabindex: "0" });
  private readonly notice = h("p", { class: "empty" });
  private readonly typing = h("p", { class: "typing" });
  private readonly jumpButton = h("button", { type: "button", class: "jump", onclick: () => this.toBottom() });
  private readonly tools = h("div", { class: "tools", role: "toolbar", "aria-label": "Message" });
  private readonly composer: Composer;
  private readonly ends: (() => void)[] = [];
  private readonly known = new Set<string>();
  /** Messages that are replied to, as they were found; null while one is read. */
  private readonly quotes = new Map<string, Message | null>();
  private readonly plan = scheduled(() => this.draw());
  private readonly sizes = new ResizeObserver(() => this.resized());
  /** Where the list's top was on the screen, once it was shown: a banner above the page moves it. */
  private top: number | undefined;
  /** Seq of the first row; undefined until there was one. */
  private from: number | undefined;
  private stuck = true;
  /** Whether newer messages were held than the rows that were drawn last. */
  private cut = false;
  /** Up to where it was read when it was opened: a line shows what is new since. */
  private readBefore: number | undefined;
  /** It was marked as unread: showing it does not count as reading it until it is opened again. */
  private leftUnread = false;
  private headStamp: unknown[] = [];
  private drawn: RoomView | undefined;
  private more: User[] | undefined;
  private peer: string | undefined;

  constructor(private readonly app: Host, readonly id: string) {
    this.chat = app.chat;
    this.room = app.chat.open(id);
    this.composer = new Composer(app, this.room, { nameOf: (u) => this.name(u), members: () => this.others(), sent: () => this.sent(), up: () => this.up() });
    this.scroll.append(this.notice, this.list);
    this.el = h("div", { class: "room" }, this.head, this.scroll, this.jumpButton, this.typing, this.composer.el);
    this.scroll.addEventListener("scroll", () => this.scrolled(), { passive: true });
    this.list.addEventListener("pointerover", (e) => this.offer(e.target));
    this.list.addEventListener("focusin", (e) => this.offer(e.target));
    this.scroll.addEventListener("keydown", (e) => this.key(e));
    if (app.uploads) this.acceptDrops();
    this.sizes.observe(this.list);
    this.sizes.observe(this.scroll);
    this.ends.push(this.room.subscribe(() => this.room.value !== this.drawn && this.plan()), this.chat.status.subscribe(() => this.plan()));
    this.draw();
  }

  destroy(): void {
    for (const end of this.ends) end();
    this.sizes.disconnect();
    this.room.close();
  }

  focus(): void {
    this.composer.focus();
  }

  /** What is shown counts as read once somebody looks at it. */
  seen(): void {
    if (this.app.watched && this.stuck && !this.leftUnread && this.room.value.list.length > 0) this.room.markRead();
  }

  private name(id: string): string {
    if (!this.known.has(id)) {
      this.known.add(id);
      if (!this.room.value.info?.members.some((m) => m.user.id === id)) this.ends.push(this.chat.user(id).subscribe(this.plan));
    }
    return nameOf(this.chat, id, this.room.value.info);
  }

  /** Those whom one can mention. Of a large group more are read when they are first needed. */
  private others(): User[] {
    const c = this.room.value.info;
    if (!c) return [];
    if (!this.more && c.memberCount > c.members.length) {
      this.more = [];
      this.room.members().then((p) => (this.more = p.data.map((m) => m.user)), () => (this.more = undefined));
    }
    const all = new Map([...c.members.map((m) => m.user), ...(this.more ?? [])].map((u) => [u.id, u]));
    all.delete(this.chat.userId ?? "");
    return [...all.values()];
  }

  private sent(): void {
    this.leftUnread = false;
    this.toBottom();
  }

  // --- drawing -------------------------------------------------------------------------------------------------------

  private draw(): void {
    if (this.readBefore === undefined && this.room.value.info) this.readBefore = this.room.value.lastReadSeq;
    this.seen(); // before it is drawn: it changes what is drawn
    const v = this.drawn = this.room.value;
    const { list } = v;
    this.drawHead(v.info);
    const n = list.length;
    let from = this.from === undefined ? list.last + 1 - firstRows : this.from;
    if (this.stuck) from = Math.max(from, list.last + 1 - mostRows);
    if (from > list.last) from = list.last + 1 - firstRows; // of a history that is no more
    from = Math.max(from, list.first);
    const rows = list.slice(from, from + mostRows - 1);
    if (n > 0) this.from = from;
    this.cut = from + mostRows <= list.last;
    this.keepPlace(() => {
      reconcile(this.list, this.items(rows, list.at(from - 1), this.cut ? [] : v.drafts));
      say(this.notice, this.said());
    });
    say(this.typing, v.typing.length > 0 ? `${people(v.typing.map((u) => this.name(u)))} ${v.typing.length === 1 ? "is" : "are"} typing…` : "");
    this.composer.el.hidden = v.gone !== undefined || this.silent(v.info);
    const missed = n > 0 ? list.last - v.lastReadSeq : 0;
    this.jumpButton.hidden = this.stuck;
    if (!this.stuck) fill(this.jumpButton, icon("down"), missed > 0 ? plural(missed, "new message") : "Newest");
    this.fillView();
  }

  /** What stands above the messages, or in their place. */
  private said(): string {
    const v = this.room.value;
    const none = v.list.length === 0;
    if (v.gone) return v.gone === "deleted" ? "This conversation was deleted." : "You are no longer in this conversation.";
    if (v.problem && none) return v.problem.detail || v.problem.title;
    if (!v.info || v.loadingOlder) return "Loading…";
    return none && v.drafts.length === 0 ? "No messages yet. Say hello." : "";
  }

  /** Whether only admins may write, and the viewer is none. */
  private silent(c: Conversation | undefined): boolean {
    return c?.posting === "admins" && c.members.some((m) => m.user.id === this.chat.userId && m.role === "member");
  }

  private drawHead(c: Conversation | undefined): void {
    const peer = c && peerOf(c, this.chat.userId);
    if (peer && this.peer !== peer.id) {
      this.peer = peer.id;
      this.ends.push(this.chat.presence(peer.id).subscribe(this.plan));
    }
    const p = peer && this.chat.presence(peer.id).value;
    const about = !c ? "" : p ? (p.status === "online" ? "online" : lastSeen(p.lastSeenAt)) : c.type === "group" ? plural(c.memberCount, "member") : "";
    const title = c ? titleOf(c, this.chat.userId) : "…";
    const stamp = [title, about, p?.status];
    if (stamp.every((s, i) => s === this.headStamp[i]) && this.headStamp.length > 0) return;
    this.headStamp = stamp;
    fill(this.head, iconButton("back", "Back to the list", () => this.app.go(undefined), { class: "icon-button back" }),
      avatar(peer?.id ?? this.id, title, p?.status === "online"), h("div", { class: "row-main" }, h("h1", { class: "title" }, title), h("span", { class: "faint-text" }, about)),
      iconButton("more", "Details", () => details(this.app, this.room)));
  }

  private items(rows: readonly Message[], before: Message | undefined, drafts: readonly Draft[]): Item[] {
    const out: Item[] = [];
    const me = this.chat.userId ?? this.app.session.user?.id;
    let previous = before;
    let at = before ? Date.parse(before.createdAt) : 0;
    let divided = false;
    for (const m of rows) {
      const was = at;
      at = Date.parse(m.createdAt);
      const newDay = !previous || dayStart(was) !== dayStart(at);
      const day = newDay ? dayOf(m.createdAt) : "";
      if (newDay) out.push({ key: "day " + m.id, stamp: [day], make: () => h("li", { class: "day" }, h("span", null, day)) });
      const mine = m.senderId === me;
      let divides = false;
      if (!divided && !mine && this.readBefore !== undefined && m.seq > this.readBefore && (!previous || previous.seq <= this.readBefore) && (this.readBefore > 0 || this.leftUnread)) {
        divided = divides = true;
        out.push({ key: "new", stamp: [], make: () => h("li", { class: "day new" }, h("span", null, "New")) });
      }
      const starts = newDay || divides || !previous || previous.senderId !== m.senderId || previous.kind === "system" || at - was > together;
      const x = this.context(m, mine, starts);
      const key = m.clientMessageId ?? m.id;
      out.push({ key, stamp: [m, x.mine, x.name, x.tick, x.tickLabel, x.quote?.name, x.quote?.text, x.names.map((n) => n.name).join()], make: () => messageRow(m, key, x, this) });
      previous = m;
    }
    for (const d of drafts) {
      const x: RowContext = { mine: true, name: "", tick: "", tickLabel: "", quote: this.quote(d.replyToId), names: [] };
      out.push({ key: d.clientMessageId, stamp: [d, x.quote?.text], make: () => draftRow(d, x, this) });
    }
    return out;
  }

  private context(m: Message, mine: boolean, starts: boolean): RowContext {
    let tick: RowContext["tick"] = "", tickLabel = "";
    if (mine && m.deletedAt === null) {
      const by = this.room.seenBy(m);
      tick = by.length > 0 ? "read" : "sent";
      const group = this.room.value.info?.type === "group";
      tickLabel = by.length === 0 ? "sent" : group ? `read by ${people(by.map((u) => this.name(u)))}` : "read";
    }
    return { mine, name: starts ? this.name(m.senderId) : "", tick, tickLabel, quote: this.quote(m.replyToId), names: m.mentions ? mentionedNames(m, (id) => this.name(id), this.chat.userId) : [] };
  }

  private quote(id: string | null | undefined): RowContext["quote"] {
    if (!id) return undefined;
    const { list } = this.room.value;
    const known = this.quotes.get(id);
    let m = known && list.at(known.seq);
    if (m?.id !== id) m = known;
    if (known === undefined) {
      m = list.find((x) => x.id === id) ?? null;
      this.quotes.set(id, m);
      if (!m) void this.room.message(id).then((found) => { this.quotes.set(id, found); this.plan(); }, () => {});
    }
    if (!m) return { id, name: "", text: "…" };
    return { id, name: this.name(m.senderId), text: m.deletedAt ? "Deleted message" : m.content.slice(0, 200) || "Attachment" };
  }

  // --- scrolling -----------------------------------------------------------------------------------------------------

  /** Runs a change of the list, after which what is seen is where it was: the newest, or the topmost row in view. */
  private keepPlace(change: () => void): void {
    const top = this.scroll.getBoundingClientRect().top;
    let key: string | undefined, was = 0;
    if (!this.stuck) {
      for (const row of this.list.querySelectorAll<HTMLElement>("[data-key]")) {
        const box = row.getBoundingClientRect();
        if (box.bottom <= top) continue;
        [key, was] = [row.dataset.key, box.top];
        break;
      }
    }
    change();
    if (this.stuck) return this.pin();
    const row = key && elementOf(this.list, key);
    if (row) this.scroll.scrollTop += row.getBoundingClientRect().top - was;
  }

  private resized(): void {
    const { top } = this.scroll.getBoundingClientRect();
    if (this.stuck) this.pin();
    else if (this.top !== undefined) this.scroll.scrollTop += top - this.top;
    this.top = top;
  }

  private pin(): void {
    this.scroll.scrollTop = this.scroll.scrollHeight;
  }

  private scrolled(): void {
    const s = this.scroll;
    const below = s.scrollHeight - s.clientHeight - s.scrollTop;
    const stuck = below < atBottom && !this.cut;
    if (stuck !== this.stuck) {
      this.stuck = stuck;
      this.plan();
    }
    if (below < near && this.cut) {
      this.from! += stepRows;
      this.draw();
    } else {
      this.fillView();
    }
  }

  /** Continues the list upwards where its start is near. */
  private fillView(): void {
    const v = this.room.value;
    const { first, length } = v.list;
    if (length === 0 || this.from === undefined || this.scroll.scrollTop > near || v.loadingOlder) return;
    const filled = this.scroll.scrollHeight > this.scroll.clientHeight + near;
    if (this.stuck && filled) return;
    if (this.from > first) {
      this.from = Math.max(first, this.from - stepRows);
      this.plan(true);
    } else if (v.hasOlder) {
      this.room.loadOlder().catch(() => {});
    }
  }

  private toBottom(): void {
    this.stuck = true;
    this.from = undefined;
    this.draw();
  }

  jump(messageId: string): void {
    void attempt(this.room.message(messageId).then(async (m) => {
      await this.room.loadUntil(m.seq);
      this.stuck = false;
      this.from = Math.max(this.room.value.list.first, m.seq - stepRows);
      this.draw();
      const row = elementOf(this.list, m.clientMessageId ?? m.id);
      row?.scrollIntoView({ block: "center" });
      row?.classList.add("found");
      row?.focus({ preventScroll: true });
      setTimeout(() => row?.classList.remove("found"), 2_000);
    }));
  }

  // --- acting on messages --------------------------------------------------------------------------------------------

  private messageOf(el: Element | null): Message | undefined {
    const id = el?.closest<HTMLElement>("[data-id]")?.dataset.id;
    return id ? this.room.value.list.find((m) => m.id === id) : undefined;
  }

  /** Puts the tools at the row under the pointer, or with the focus. */
  private offer(target: EventTarget | null): void {
    const row = (target as Element).closest?.<HTMLElement>("[data-id]");
    const m = this.messageOf(row ?? null);
    if (!row || !m || m.deletedAt || this.tools.parentElement === row || this.tools.contains(document.activeElement)) return;
    const mine = m.senderId === this.chat.userId;
    const runs = this.room.value.info?.members.some((x) => x.user.id === this.chat.userId && x.role !== "member") && this.room.value.info.type === "group";
    const toggle = (r: string): void => {
      const now = this.messageOf(row) ?? m;
      this.react(now, r, !now.mine?.includes(r));
    };
    const react = (r: string): HTMLElement => h("button", { type: "button", class: "icon-button", "aria-label": `React with ${r}`, onclick: () => toggle(r) }, r);
    fill(this.tools, quick.map(react), iconButton("smile", "More reactions", () => chooseReaction(toggle)), iconButton("reply", "Reply", () => this.composer.reply(m)),
      !mine && iconButton("unread", "Mark as unread", () => void this.markUnread(m)),
      mine && iconButton("edit", "Edit", () => this.composer.edit(this.messageOf(row) ?? m)), (mine || runs) && iconButton("remove", "Delete", () => void this.remove(m)));
    row.append(this.tools);
  }

  /** Moves what is read back to before a message. */
  private async markUnread(m: Message): Promise<void> {
    this.leftUnread = true;
    if (!(await attempt(this.room.setOwn({ unreadFrom: m.id })))) return void (this.leftUnread = false);
    this.readBefore = m.seq - 1;
    this.draw();
  }

  private async remove(m: Message): Promise<void> {
    if (await confirmed("Delete this message for everybody?", "Delete")) await attempt(this.room.remove(m.id));
  }

  react(m: Message, reaction: string, on: boolean): void {
    void attempt(this.room.react(m.id, reaction, on));
  }

  profile(userId: string): void {
    const u = this.room.value.info?.members.find((m) => m.user.id === userId)?.user ?? this.chat.user(userId).value;
    if (u && userId !== this.chat.userId) profile(this.app, u);
  }

  retry(d: Draft): void {
    this.room.retry(d.clientMessageId).catch(() => {});
  }

  discard(d: Draft): void {
    this.room.discard(d.clientMessageId);
  }

  /** Up from an empty text: changes the newest message of one's own; without one, goes to the messages. */
  private up(): void {
    const own = this.room.value.list.find((m) => m.senderId === this.chat.userId && m.deletedAt === null && m.kind !== "system");
    if (own) this.composer.edit(own);
    else this.focusLast();
  }

  private focusLast(): void {
    const rows = this.list.querySelectorAll<HTMLElement>(".message");
    rows[rows.length - 1]?.focus();
  }

  private key(e: KeyboardEvent): void {
    const row = (e.target as Element).closest<HTMLElement>(".message");
    if (!row) {
      if (e.target === this.scroll && e.key === "ArrowUp") this.focusLast(), e.preventDefault();
      return;
    }
    if (e.key === "Escape") return this.composer.focus();
    if (e.target !== row) return;
    const rows = [...this.list.querySelectorAll<HTMLElement>(".message")];
    const at = rows.indexOf(row);
    const m = this.messageOf(row);
    const mine = m?.senderId === this.chat.userId;
    if (e.key === "ArrowUp") rows[at - 1]?.focus();
    else if (e.key === "ArrowDown") (rows[at + 1] ?? this.composer).focus();
    else if (e.key === "r" && m && !e.ctrlKey && !e.metaKey) this.composer.reply(m);
    else if (e.key === "u" && m && !mine && !e.ctrlKey && !e.metaKey) void this.markUnread(m);
    else if (e.key === "e" && m && mine) this.composer.edit(m);
    else if (e.key === "Delete" && m && mine) void this.remove(m);
    else return;
    e.preventDefault();
  }

  private acceptDrops(): void {
    const over = (on: boolean): void => void this.el.classList.toggle("dropping", on);
    this.el.addEventListener("dragover", () => over(true));
    this.el.addEventListener("dragleave", () => over(false));
    this.el.addEventListener("drop", (e) => {
      over(false);
      this.composer.attach(e.dataTransfer?.files);
    });
  }
}
