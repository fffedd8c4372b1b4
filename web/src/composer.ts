import type { Attachment, Message, Room, User } from "@parley-chat/client";
import type { Host } from "./host.js";
import { drafts } from "./drafts.js";
import { attempt, fill, h, iconButton, toast } from "./dom.js";
import { MentionPicker } from "./mention.js";

/** What the composer needs of the conversation around it. */
interface Around {
  nameOf(id: string): string;
  /** Those whom one can mention. */
  members(): readonly User[];
  /** Something was sent. */
  sent(): void;
  /** One goes up from an empty text. */
  up(): void;
}

interface Upload {
  readonly name: string;
  done?: Attachment;
}

const mostFiles = 10;

/** Where one writes: a text, files, and what it replies to or changes. Unsent text is kept. */
export class Composer {
  readonly el: HTMLFormElement;
  private readonly text = h("textarea", { rows: 1, dir: "auto", placeholder: "Write a message", "aria-label": "Message", maxlength: 8000, enterkeyhint: "send" });
  private readonly about = h("div", { class: "about" });
  private readonly chips = h("ul", { class: "picked", "aria-label": "Attachments" });
  private uploads: Upload[] = [];
  private replyTo: Message | undefined;
  private editing: Message | undefined;
  private readonly mentions: MentionPicker;

  /** Of the text that is kept: the demo has two people in one tab. */
  private readonly key: string;

  constructor(private readonly app: Host, private readonly room: Room, private readonly around: Around) {
    this.key = `${app.session.user?.id}.${room.id}`;
    this.mentions = new MentionPicker(this.text, () => around.members());
    const file = h("input", { type: "file", multiple: true, class: "visually-hidden", tabindex: "-1", "aria-hidden": "true" });
    file.addEventListener("change", () => {
      this.attach(file.files);
      file.value = "";
    });
    this.el = h("form", { class: "composer" }, this.mentions.el, this.about, this.chips, h("div", { class: "composer-row" },
      app.uploads && iconButton("attach", "Attach files", () => file.click()), app.uploads && file, this.text,
      iconButton("send", "Send", () => undefined, { type: "submit", class: "icon-button send" })));
    this.text.value = drafts.get(this.key);
    this.el.addEventListener("submit", (e) => {
      e.preventDefault();
      this.submit();
    });
    this.text.addEventListener("input", () => this.typed());
    this.text.addEventListener("keydown", (e) => this.pressed(e));
    this.text.addEventListener("paste", (e) => {
      if (app.uploads && e.clipboardData?.files.length) {
        e.preventDefault();
        this.attach(e.clipboardData.files);
      }
    });
    requestAnimationFrame(() => this.fit());
  }

  focus(): void {
    this.text.focus({ preventScroll: true });
  }

  reply(m: Message): void {
    this.cancel();
    this.replyTo = m;
    this.draw();
    this.focus();
  }

  edit(m: Message): void {
    this.cancel();
    this.editing = m;
    this.text.value = m.content;
    this.mentions.reset(m.mentions, (id) => this.around.nameOf(id));
    this.draw();
    this.fit();
    this.focus();
  }

  private cancel(): void {
    if (this.editing) {
      this.text.value = drafts.get(this.key);
      this.mentions.reset();
    }
    this.editing = this.replyTo = undefined;
    this.draw();
    this.fit();
  }

  private draw(): void {
    const m = this.editing ?? this.replyTo;
    fill(this.about, m && [
      h("span", null, h("b", null, this.editing ? "Edit message" : `Reply to ${this.around.nameOf(m.senderId)}`), h("span", { class: "faint-text" }, m.content || "Attachment")),
      iconButton("close", "Cancel", () => { this.cancel(); this.focus(); })]);
    fill(this.chips, this.uploads.map((u) => h("li", { class: "chip" }, u.done ? u.name : `${u.name} …`,
      iconButton("close", `Leave out ${u.name}`, () => { this.uploads = this.uploads.filter((x) => x !== u); this.draw(); }))));
  }

  private typed(): void {
    this.fit();
    this.mentions.update();
    if (this.editing) return;
    drafts.set(this.key, this.text.value);
    if (this.text.value.trim()) this.room.typing();
  }

  /** As high as its text. Most browsers do it (`field-sizing`), without a layout in between. */
  private fit(): void {
    if (CSS.supports("field-sizing", "content")) return;
    this.text.style.height = "auto";
    this.text.style.height = `${Math.min(this.text.scrollHeight, 180)}px`;
  }

  private pressed(e: KeyboardEvent): void {
    if (!e.isComposing && this.mentions.key(e)) return;
    if (e.key === "Enter" && !e.shiftKey && !e.isComposing) {
      e.preventDefault();
      this.submit();
    } else if (e.key === "Escape" && (this.editing || this.replyTo)) {
      this.cancel();
    } else if (e.key === "ArrowUp" && this.text.value === "") {
      e.preventDefault();
      this.around.up();
    }
  }

  attach(files: FileList | null | undefined): void {
    for (const file of files ?? []) {
      if (this.uploads.length >= mostFiles) return toast(`A message has at most ${mostFiles} files.`);
      const up: Upload = { name: file.name };
      this.uploads.push(up);
      void attempt(this.app.chat.files.upload(file).then((a) => (up.done = a))).then((ok) => {
        if (!ok) this.uploads = this.uploads.filter((u) => u !== up);
        this.draw();
      });
    }
    this.draw();
  }

  private submit(): void {
    const content = this.text.value.trim();
    const { editing, replyTo, uploads } = this;
    const mentions = this.mentions.of(content);
    if (editing) {
      this.cancel();
      const patch = { content, ...((mentions || editing.mentions) && { mentions: mentions ?? { userIds: [], all: false } }) };
      if (content && content !== editing.content) void attempt(this.room.edit(editing.id, patch));
      return;
    }
    if (uploads.some((u) => !u.done)) return toast("A file is still on its way.");
    if (!content && uploads.length === 0) return;
    // It rejects if the server refuses it; the draft shows why.
    this.room.send(content, { ...(replyTo && { replyToId: replyTo.id }), ...(mentions && { mentions }), ...(uploads.length > 0 && { attachments: uploads.map((u) => u.done!.id) }) }).catch(() => {});
    this.text.value = "";
    drafts.set(this.key, "");
    this.mentions.reset();
    this.uploads = [];
    this.cancel();
    this.focus();
    this.around.sent();
  }
}
