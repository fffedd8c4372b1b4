import type { Parley, Session } from "@parley-chat/client";
import { closeDialogs, fill, h, icon, iconButton, scheduled, toast } from "./dom.js";
import { drafts } from "./drafts.js";
import type { Host } from "./host.js";
import { List } from "./list.js";
import { newChat } from "./people.js";
import { renewNotifications } from "./notify.js";
import { RoomPane } from "./room.js";
import { settings } from "./settings.js";
import { nameOf, plural } from "./text.js";

/** The page of somebody who is signed in: the list beside one conversation, or one of them on a narrow screen. */
export class App implements Host {
  readonly uploads = document.documentElement.dataset.uploads === "on";
  private readonly pane = h("div", { class: "pane" });
  private readonly banner = h("div", { class: "banner", role: "status" });
  private readonly news = h("div", { class: "visually-hidden", "aria-live": "polite" });
  private readonly list: List;
  private heard: string[] = [];
  private hush: ReturnType<typeof setTimeout> | undefined;
  private room: RoomPane | undefined;
  private readonly ends: (() => void)[] = [];

  constructor(
    private readonly root: HTMLElement,
    readonly chat: Parley,
    readonly session: Session,
    private readonly left: (reason: string) => void,
  ) {
    this.list = new List(this);
    const side = h("nav", { class: "side", "aria-label": "Conversations" },
      h("header", { class: "bar" }, h("h1", null, "Chats"),
        iconButton("plus", "New chat", () => newChat(this)), iconButton("settings", "Settings", () => settings(this))),
      this.list.el);
    fill(root, this.banner, h("main", { class: "columns" }, side, this.pane), this.news);
    const status = scheduled(() => this.status());
    let titled: ReturnType<typeof setTimeout> | undefined;
    // A message that is read as it comes does not count for a moment.
    const title = (): void => void (titled ??= setTimeout(() => (titled = undefined, this.title()), 250));
    this.ends.push(() => clearTimeout(titled), chat.status.subscribe(status), chat.unread.subscribe(title), chat.on("message", (e) => this.announce(e.conversationId, e.message.senderId, e.message.content)),
      chat.on("friend", ({ type, user }) => {
        if (type !== "friend:removed") toast(type === "friend:requested" ? `${user.displayName} wants to be your friend: see New chat.` : `${user.displayName} is your friend now.`);
      }));
    for (const event of ["hashchange", "online", "offline"]) this.listen(window, event, () => (event === "hashchange" ? this.route() : status()));
    this.listen(document, "visibilitychange", () => this.attention());
    for (const event of ["dragover", "drop"]) this.listen(document, event, (e) => e.preventDefault()); // a file beside a conversation would replace the page
    this.listen(window, "focus", () => this.attention());
    this.listen(window, "blur", () => this.attention());
    this.status();
    this.title();
    this.route();
    void renewNotifications(chat);
  }

  get selected(): string | undefined {
    return /^#\/c\/([\w-]+)$/.exec(location.hash)?.[1];
  }

  /** Shows a conversation. */
  go(id: string | undefined): void {
    location.hash = id ? `#/c/${id}` : "#/";
  }

  async logout(): Promise<void> {
    await this.session.logout();
    this.leave("");
  }

  private listen(target: EventTarget, event: string, handler: (e: Event) => void): void {
    target.addEventListener(event, handler);
    this.ends.push(() => target.removeEventListener(event, handler));
  }

  private leave(reason: string): void {
    for (const end of this.ends.splice(0)) end();
    this.room?.destroy();
    this.list.destroy();
    this.chat.close();
    drafts.clear();
    closeDialogs();
    history.replaceState(null, "", "#/");
    document.title = "Parley";
    this.left(reason);
  }

  private route(): void {
    const id = this.selected;
    if (this.room && this.room.id === id) return;
    this.room?.destroy();
    this.room = undefined;
    this.root.classList.toggle("has-room", id !== undefined);
    if (id) {
      this.room = new RoomPane(this, id);
      fill(this.pane, this.room.el);
      if (matchMedia("(pointer: fine)").matches) this.room.focus();
    } else {
      fill(this.pane, h("div", { class: "nothing" }, h("div", { class: "mark", "aria-hidden": "true" }),
        h("p", null, "Choose a conversation, or start one."),
        h("button", { type: "button", class: "primary", onclick: () => newChat(this) }, icon("plus"), "New chat")));
    }
    this.list.draw();
    this.attention();
  }

  /** Whether somebody looks at the page. */
  get watched(): boolean {
    return document.visibilityState === "visible" && document.hasFocus();
  }

  private attention(): void {
    this.chat.focus(this.watched ? (this.selected ?? null) : false);
    this.room?.seen();
  }

  private title(): void {
    const n = this.chat.unread.value.messages;
    const title = n > 0 ? `(${n}) Parley` : "Parley";
    if (document.title !== title) document.title = title;
  }

  /** For screen readers: a message at once, those of the two seconds after it together. */
  private announce(conversationId: string, senderId: string, content: string): void {
    if (senderId === this.chat.userId) return;
    const who = nameOf(this.chat, senderId);
    this.heard.push(conversationId === this.selected ? `${who}: ${content}` : `New message from ${who}`);
    if (!this.hush) this.speak();
  }

  private speak(): void {
    const n = this.heard.length;
    if (n > 0) fill(this.news, n === 1 ? this.heard[0] : plural(n, "new message"));
    this.hush = n > 0 ? setTimeout(() => this.speak(), 2_000) : undefined;
    this.heard = [];
  }

  private status(): void {
    const s = this.chat.status.value;
    if (s.state === "stopped" && s.reason === "signed_out") {
      void this.session.logout();
      this.leave("You were signed out. Sign in again.");
      return;
    }
    if (s.state === "stopped" && s.reason === "replaced") {
      fill(this.banner, "Parley is open in another tab. ", h("button", { type: "button", class: "link", onclick: () => this.chat.connect() }, "Use it here"));
    } else if (s.state === "stopped" && s.reason === "banned") {
      fill(this.banner, "This account is suspended.");
    } else if (!navigator.onLine) {
      fill(this.banner, "You are offline. Messages are sent once you are back.");
    } else if (s.state === "waiting") {
      const seconds = Math.max(1, Math.round((s.retryAt - Date.now()) / 1000));
      fill(this.banner, `No connection to the server. Trying again in ${plural(seconds, "second")}.`);
    } else {
      fill(this.banner);
    }
    this.banner.classList.toggle("shown", this.banner.childNodes.length > 0);
  }

  /** For faults that nobody waits for. */
  problem(err: unknown): void {
    toast((err as Error).message);
  }
}
