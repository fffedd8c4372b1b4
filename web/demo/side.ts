import { Parley, Session, type Frame, type Message, type Page, type RoomView } from "@parley-chat/client";
import { fill, h, scheduled } from "../src/dom.js";
import type { Host } from "../src/host.js";
import { RoomPane } from "../src/room.js";
import type { Person } from "./control.js";

const mostFrames = 80;

/** One of the two people: their line to their pod, their pane, their frames. */
export class Side implements Host {
  readonly uploads = false;
  readonly chat: Parley;
  private readonly strip = h("ol", { class: "strip", tabindex: "0", "aria-label": "Frames" });
  private readonly news: HTMLElement[] = [];
  private readonly state = h("span", { class: "state" });
  private readonly cutButton = h("button", { type: "button", class: "quiet" });
  private readonly killButton = h("button", { type: "button", class: "quiet" }, "Kill the pod");
  private pane: RoomPane | undefined;
  private isCut = false;

  private constructor(private readonly person: Person, private readonly index: number, readonly session: Session) {
    this.chat = new Parley({ url: person.url, token: session.token, deviceId: "demo-" + index }).connect();
    const flush = scheduled(() => this.flush());
    this.chat.on("frame", ({ direction, frame }) => {
      this.news.push(line(direction, frame));
      flush();
    });
    this.chat.status.subscribe(scheduled(() => this.draw()));
  }

  /** Signs the person in, or up if they are new here. */
  static async open(person: Person, index: number, password: string): Promise<Side> {
    const session = new Session({ url: person.url, storage: sessionStorage, key: "demo." + index });
    const enter = (username: string): Promise<unknown> =>
      session.login({ username, password }).catch((err: { status?: number }) => {
        if (err.status !== 401) throw err;
        return session.register({ username, password, displayName: username[0]!.toUpperCase() + username.slice(1) });
      });
    // Somebody else may have that name already, with a password of their own.
    if (!session.user) await enter(person.username).catch(() => enter(`${person.username}_${Math.random().toString(36).slice(2, 8)}`));
    return new Side(person, index, session);
  }

  get name(): string {
    return this.session.user?.displayName ?? this.person.username;
  }

  get userId(): string {
    return this.session.user!.id;
  }

  get watched(): boolean {
    return document.visibilityState === "visible";
  }

  get value(): RoomView {
    return this.chat.peek(this.pane!.id).value;
  }

  /** Whether the line is cut: nothing can be asked over it. */
  get lost(): boolean {
    return this.isCut || this.chat.status.value.state !== "online";
  }

  /** The conversation is all that there is here. */
  go(): void {}

  show(id: string): void {
    this.pane = new RoomPane(this, id);
  }

  send(text: string): void {
    this.chat.peek(this.pane!.id).send(text).catch(() => {});
  }

  /** The newest messages of a conversation, in the order of their seq. */
  async newest(id: string, most: number): Promise<Message[]> {
    const out: Message[] = [];
    for (let cursor = ""; out.length < most;) {
      const page = await this.chat.request<Page<Message>>("GET", `/conversations/${id}/messages?limit=100${cursor && "&cursor=" + encodeURIComponent(cursor)}`);
      out.push(...page.data);
      cursor = page.pagination.nextCursor ?? "";
      if (!page.pagination.hasMore) break;
    }
    return out.reverse();
  }

  /** Shows whether the line is cut. Once it is mended the client is told, as a browser does. */
  cut(now: boolean): void {
    const mended = this.isCut && !now;
    this.isCut = now;
    if (mended) dispatchEvent(new Event("online"));
    this.draw();
  }

  element(act: (what: string) => Promise<void>): HTMLElement {
    this.cutButton.addEventListener("click", () => void act(`${this.isCut ? "mend" : "cut"}/${this.index}`));
    this.killButton.addEventListener("click", () => void act(`kill/${this.index}`));
    this.draw();
    return h("section", { class: "one-side", "aria-label": this.name },
      h("header", { class: "side-head" },
        h("div", { class: "row-main" }, h("h2", null, this.name), h("span", { class: "faint-text" }, `on ${this.person.pod} · `, this.state)),
        h("div", { class: "row" }, this.cutButton, this.killButton)),
      this.pane!.el,
      h("h3", { class: "strip-title" }, "Frames"), this.strip);
  }

  private draw(): void {
    const { state } = this.chat.status.value;
    const online = state === "online";
    fill(this.state, this.isCut ? "no network" : online ? "connected" : state === "stopped" ? "signed out" : "connecting…");
    this.state.classList.toggle("bad", this.isCut || !online);
    fill(this.cutButton, this.isCut ? "Give the network back" : "Cut the network");
    this.killButton.disabled = this.isCut || !online;
  }

  private flush(): void {
    this.strip.append(...this.news.splice(0));
    while (this.strip.children.length > mostFrames) this.strip.firstChild!.remove();
    this.strip.scrollTop = this.strip.scrollHeight;
  }
}

/** What passed, in a line: which way, its type, and what it is about. */
function line(direction: "in" | "out", f: Frame): HTMLElement {
  const d = (f.data ?? {}) as Record<string, unknown>;
  const about = ["seq", "revision", "content", "active", "status", "upToMessageId", "code"].filter((k) => ["string", "number", "boolean"].includes(typeof d[k]))
    .map((k) => `${k} ${JSON.stringify(d[k])}`).join(", ");
  return h("li", { class: direction, title: JSON.stringify(f).slice(0, 2_000) },
    h("span", { class: "visually-hidden" }, direction === "in" ? "received " : "sent "), h("span", { class: "arrow", "aria-hidden": "true" }, direction === "in" ? "↓" : "↑"),
    h("b", null, f.type), " ", h("span", { class: "faint-text" }, about));
}
