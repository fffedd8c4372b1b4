import { isMuted, type Conversation } from "@parley-chat/client";
import type { App } from "./app.js";
import { avatar } from "./avatar.js";
import { attempt, h, icon, reconcile, say, scheduled } from "./dom.js";
import { briefTime, nameOf, peerOf, titleOf } from "./text.js";

const filters = { all: "All", unread: "Unread", groups: "Groups", archived: "Archived" } as const;
type Filter = keyof typeof filters;
const firstRows = 100;

/** The conversations: filters, a search by name, rows with what is unread. */
export class List {
  private filter: Filter = "all";
  private query = "";
  private most = firstRows;
  private readonly rows = h("ul", { class: "rows" });
  private readonly empty = h("p", { class: "empty" });
  private readonly more = h("button", { type: "button", class: "quiet more", onclick: () => this.loadMore() }, "Show more");
  private readonly buttons = new Map<Filter, HTMLButtonElement>();
  private readonly watched = new Map<string, () => void>();
  private readonly ends: (() => void)[] = [];
  private readonly plan = scheduled(() => this.draw());
  readonly el: HTMLElement;

  constructor(private readonly app: App) {
    const search = h("input", { type: "search", placeholder: "Find a conversation", "aria-label": "Find a conversation" });
    search.addEventListener("input", () => {
      this.query = search.value.trim().toLowerCase();
      this.draw();
    });
    for (const [key, label] of Object.entries(filters) as [Filter, string][]) {
      this.buttons.set(key, h("button", { type: "button", class: "chip", onclick: () => { this.filter = key; this.draw(); } }, label));
    }
    this.el = h("div", { class: "list" }, search, h("div", { class: "chips", role: "group", "aria-label": "Filter" }, [...this.buttons.values()]),
      h("div", { class: "scroll" }, this.rows, this.empty, this.more));
    this.rows.addEventListener("keydown", (e) => this.key(e));
    const { chat } = app;
    this.ends.push(chat.allConversations.subscribe(this.plan), chat.me.subscribe(this.plan), chat.synced.subscribe(this.plan));
  }

  destroy(): void {
    for (const end of [...this.ends, ...this.watched.values()]) end();
  }

  private key(e: KeyboardEvent): void {
    if (e.key !== "ArrowDown" && e.key !== "ArrowUp") return;
    const all = [...this.rows.querySelectorAll("a")];
    const at = all.indexOf(document.activeElement as HTMLAnchorElement);
    all[at + (e.key === "ArrowDown" ? 1 : -1)]?.focus();
    e.preventDefault();
  }

  private shows(c: Conversation): boolean {
    if (c.hidden || !!c.archivedAt !== (this.filter === "archived")) return false;
    if (this.filter === "unread" && c.unreadCount === 0 && !c.markedUnread && c.id !== this.app.selected) return false;
    if (this.filter === "groups" && c.type !== "group") return false;
    return !this.query || titleOf(c, this.app.chat.userId).toLowerCase().includes(this.query);
  }

  private async loadMore(): Promise<void> {
    this.most += firstRows;
    if (this.app.chat.allConversations.value.length < this.most) await attempt(this.app.chat.loadMoreConversations());
    this.draw();
  }

  draw(): void {
    const { chat, selected } = this.app;
    for (const [key, b] of this.buttons) b.setAttribute("aria-pressed", String(key === this.filter));
    const all = chat.allConversations.value;
    const found = all.filter((c) => this.shows(c));
    const rows = found.slice(0, this.most);
    this.watch(rows);
    reconcile(this.rows, rows.map((c) => {
      const peer = peerOf(c, chat.userId);
      const online = !!peer && chat.presence(peer.id).value.status === "online";
      const author = c.type === "group" && c.lastMessage ? nameOf(chat, c.lastMessage.senderId, c) : "";
      return { key: c.id, stamp: [c, c.id === selected, online, author, isMuted(c), chat.userId], make: () => this.row(c, c.id === selected, online, author) };
    }));
    this.more.hidden = found.length <= this.most && all.length % firstRows !== 0 || all.length === 0;
    const waiting = !chat.synced.value && all.length === 0;
    say(this.empty, rows.length > 0 ? "" : waiting ? "Loading…" : this.filter === "all" && !this.query ? "No conversations yet." : "Nothing here.");
  }

  /** Follows the presence of those in direct conversations that are shown. */
  private watch(rows: readonly Conversation[]): void {
    const { chat } = this.app;
    const now = new Set(rows.map((c) => peerOf(c, chat.userId)?.id).filter((id) => id !== undefined));
    for (const id of now) if (!this.watched.has(id)) this.watched.set(id, chat.presence(id).subscribe(this.plan));
    for (const [id, end] of this.watched) {
      if (now.has(id)) continue;
      end();
      this.watched.delete(id);
    }
  }

  private row(c: Conversation, current: boolean, online: boolean, author: string): HTMLElement {
    const me = this.app.chat.userId;
    const title = titleOf(c, me);
    const m = c.lastMessage;
    const text = !m ? "No messages yet" : m.deletedAt ? "Deleted message" : m.content || (m.attachments?.length ? "Attachment" : "");
    const from = !m || m.kind === "system" ? "" : m.senderId === me ? "You: " : author ? `${author}: ` : "";
    const unread = c.unreadCount > 0 || c.markedUnread;
    return h("li", null, h("a", { href: `#/c/${c.id}`, class: unread ? "unread" : "", "aria-current": current ? "page" : null },
      avatar(peerOf(c, me)?.id ?? c.id, title, online),
      h("span", { class: "row-main" },
        h("span", { class: "row-top" }, h("span", { class: "row-title" }, title), online && h("span", { class: "visually-hidden" }, ", online"),
          c.pinnedAt && icon("pin"), isMuted(c) && icon("muted"), h("time", { datetime: c.lastMessageAt }, briefTime(c.lastMessageAt))),
        h("span", { class: "row-bottom" }, h("span", { class: "row-text" }, from + text),
          unread && h("span", { class: isMuted(c) ? "badge faint" : "badge" }, c.mentionCount ? "@" : "", c.unreadCount > 0 ? Math.min(c.unreadCount, 999) : "•",
            h("span", { class: "visually-hidden" }, " unread"))))));
  }
}
