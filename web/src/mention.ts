import type { Message, User } from "@parley-chat/client";
import { fill, h } from "./dom.js";

const mostShown = 6;
const everybody = "everybody";

/** What a message says of those whom it names. */
export type Mentions = NonNullable<Message["mentions"]>;

/** Suggests members while one writes `@na…`, and remembers who was chosen. The server does not look into the text. */
export class MentionPicker {
  readonly el = h("ul", { class: "suggestions", role: "listbox", id: "mention-" + Math.random().toString(36).slice(2), "aria-label": "People to mention", hidden: true });
  /** The ids of those chosen, by the name that stands in the text. */
  private readonly chosen = new Map<string, string>();
  private found: (User | undefined)[] = []; // undefined is everybody
  private at = 0;
  private start = 0;

  constructor(private readonly text: HTMLTextAreaElement, private readonly members: () => readonly User[]) {
    text.setAttribute("aria-autocomplete", "list");
    text.addEventListener("blur", () => this.close());
    text.addEventListener("click", () => this.update());
  }

  /** Begins with the mentions of a message that is edited, or with none. */
  reset(mentions?: Mentions, nameOf?: (id: string) => string): void {
    this.chosen.clear();
    for (const id of mentions?.userIds ?? []) this.chosen.set(nameOf!(id), id);
    if (mentions?.all) this.chosen.set(everybody, everybody);
    this.close();
  }

  /** Looks for a name that is begun before the caret. */
  update(): void {
    const before = this.text.value.slice(0, this.text.selectionStart);
    const begun = /(?:^|\s)@([\p{L}\p{N}_.-]{0,30})$/u.exec(before);
    const members = begun ? this.members() : [];
    if (!begun || members.length === 0) return this.close();
    const q = begun[1]!.toLowerCase();
    this.start = before.length - begun[1]!.length - 1;
    const fits = (s: string): boolean => s.toLowerCase().split(/\s+/).some((w) => w.startsWith(q));
    this.found = members.filter((u) => fits(u.displayName) || fits(u.username)).slice(0, mostShown);
    if (members.length > 1 && everybody.startsWith(q)) this.found.push(undefined);
    this.at = 0;
    if (this.found.length === 0) this.close();
    else this.draw();
  }

  /** Handles a key while people are suggested; it reports whether it did. */
  key(e: KeyboardEvent): boolean {
    if (this.el.hidden) return false;
    const n = this.found.length;
    if (e.key === "ArrowDown") this.at = (this.at + 1) % n;
    else if (e.key === "ArrowUp") this.at = (this.at + n - 1) % n;
    else if (e.key === "Enter" || e.key === "Tab") this.choose(this.at);
    else if (e.key === "Escape") this.close();
    else return false;
    e.preventDefault();
    if (!this.el.hidden) this.draw();
    return true;
  }

  /** Those whose names still stand in the text; undefined if there is nobody. */
  of(content: string): Mentions | undefined {
    const ids = [...this.chosen].filter(([name]) => content.includes("@" + name)).map(([, id]) => id);
    const userIds = ids.filter((id) => id !== everybody);
    return ids.length === 0 ? undefined : { userIds, all: userIds.length < ids.length };
  }

  private choose(i: number): void {
    const u = this.found[i];
    const name = u?.displayName ?? everybody;
    this.chosen.set(name, u?.id ?? everybody);
    this.text.setRangeText(`@${name} `, this.start, this.text.selectionStart, "end");
    this.text.dispatchEvent(new Event("input"));
    this.close();
  }

  private close(): void {
    this.el.hidden = true;
    this.text.removeAttribute("aria-activedescendant");
    this.text.removeAttribute("aria-controls");
  }

  private draw(): void {
    this.el.hidden = false;
    const option = (i: number): string => `${this.el.id}-${i}`;
    this.text.setAttribute("aria-controls", this.el.id);
    this.text.setAttribute("aria-activedescendant", option(this.at));
    fill(this.el, this.found.map((u, i) => h("li", { role: "option", id: option(i), "aria-selected": String(i === this.at), onmousedown: (e: Event) => { e.preventDefault(); this.choose(i); } },
      h("b", null, u?.displayName ?? everybody), h("span", { class: "faint-text" }, u ? "@" + u.username : "all members"))));
  }
}

/** The names that a message's text may contain, longest first, each with whether it is the viewer. */
export function mentionedNames(m: Message, nameOf: (id: string) => string, me: string | undefined): { name: string; me: boolean }[] {
  const names = (m.mentions?.userIds ?? []).map((id) => ({ name: "@" + nameOf(id), me: id === me }));
  if (m.mentions?.all) names.push({ name: "@" + everybody, me: true });
  return names.sort((a, b) => b.name.length - a.name.length);
}
