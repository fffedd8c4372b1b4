import type { Attachment, Draft, Message, Parley } from "@parley-chat/client";
import { avatar } from "./avatar.js";
import { h } from "./dom.js";
import { textOf, type Names } from "./rich.js";
import { sizeOf, timeOf } from "./text.js";

/** What a row shows beside its message. */
export interface RowContext {
  readonly mine: boolean;
  /** The sender, over the first message of theirs in a row; "" for the others. */
  readonly name: string;
  readonly quote: { readonly id: string; readonly name: string; readonly text: string } | undefined;
  /** Sent, or read by whom; "" for messages of others. */
  readonly tick: "" | "sent" | "read";
  readonly tickLabel: string;
  readonly names: Names;
}

export interface RowActions {
  readonly chat: Parley;
  react(m: Message, reaction: string, on: boolean): void;
  jump(messageId: string): void;
  profile(userId: string): void;
  retry(d: Draft): void;
  discard(d: Draft): void;
}

/** A row of a message. `data-key` finds it again. */
export function messageRow(m: Message, key: string, x: RowContext, on: RowActions): HTMLElement {
  if (m.kind === "system") return h("li", { class: "system", "data-key": key }, m.content);
  const deleted = m.deletedAt !== null;
  return h("li", { class: `message${x.mine ? " mine" : ""}${x.name ? " first" : ""}`, "data-key": key, "data-id": m.id, tabindex: "-1" },
    !x.mine && x.name && h("button", { type: "button", class: "face", tabindex: "-1", "aria-label": `Profile of ${x.name}`, onclick: () => on.profile(m.senderId) }, avatar(m.senderId, x.name)),
    h("div", { class: "body" },
      x.name && !x.mine ? h("span", { class: "name" }, x.name) : h("span", { class: "visually-hidden" }, x.mine ? "You: " : ""),
      h("div", { class: "bubble" },
        x.quote && h("button", { type: "button", class: "quote", "data-focus": "quote", onclick: () => on.jump(x.quote!.id) }, h("b", null, x.quote.name), h("span", { dir: "auto" }, x.quote.text)),
        deleted ? h("p", { class: "deleted" }, "This message was deleted.") : m.content !== "" && textOf(m.content, x.names),
        !deleted && m.attachments?.map((a) => attachment(on.chat, a)),
        h("span", { class: "meta" }, m.pinnedAt && "Pinned · ", m.editedAt && !deleted && "Edited · ", h("time", { datetime: m.createdAt }, timeOf(m.createdAt)),
          x.tick && h("span", { class: `tick ${x.tick}`, title: x.tickLabel }, h("span", { "aria-hidden": "true" }, x.tick === "read" ? " ✓✓" : " ✓"), h("span", { class: "visually-hidden" }, `, ${x.tickLabel}`)))),
      !deleted && !!m.reactions?.length && h("div", { class: "reactions", role: "group", "aria-label": "Reactions" }, m.reactions.map((r) => {
        const own = !!m.mine?.includes(r.reaction);
        return h("button", { type: "button", class: "reaction", "data-focus": "r" + r.reaction, "aria-pressed": String(own), "aria-label": `${r.reaction}, ${r.count}`, onclick: () => on.react(m, r.reaction, !own) }, r.reaction, h("span", null, r.count));
      }))));
}

const states = { queued: "Waiting", sending: "Sending", sent: "Sent" };

/** A row of what is not sent yet, or could not be. */
export function draftRow(d: Draft, x: RowContext, on: RowActions): HTMLElement {
  const failed = d.state === "failed";
  return h("li", { class: `message mine draft${failed ? " failed" : ""}`, "data-key": d.clientMessageId, tabindex: "-1" },
    h("div", { class: "body" },
      h("div", { class: "bubble" },
        x.quote && h("div", { class: "quote" }, h("b", null, x.quote.name), h("span", { dir: "auto" }, x.quote.text)),
        d.content !== "" && textOf(d.content, []), !!d.attachments?.length && h("p", { class: "faint-text" }, "With attachments"),
        h("span", { class: "meta" }, d.state === "failed" ? "Not sent" : states[d.state])),
      failed && h("div", { class: "failure", role: "alert" }, h("span", null, d.problem?.detail || "It was refused."),
        h("button", { type: "button", class: "link", onclick: () => on.retry(d) }, "Try again"), h("button", { type: "button", class: "link", onclick: () => on.discard(d) }, "Discard"))));
}

const shown = ["image/png", "image/jpeg", "image/gif", "image/webp", "image/avif"];

function attachment(chat: Parley, a: Attachment): HTMLElement {
  if (!shown.includes(a.contentType)) {
    return h("button", { type: "button", class: "file", "data-focus": a.id, onclick: () => void open(chat, a) }, h("b", null, a.filename), h("span", null, sizeOf(a.size)));
  }
  const img = h("img", { alt: a.filename, ...(a.width && a.height && { width: a.width, height: a.height }) });
  let tries = 0;
  const load = (): void => void chat.files.url(a.id).then((u) => {
    if (u) img.src = u;
    else img.alt = `${a.filename} is gone`;
  });
  img.addEventListener("error", () => {
    if (img.src && tries++ < 1) load();
  });
  load();
  return h("button", { type: "button", class: "picture", "data-focus": a.id, "aria-label": `Open ${a.filename}`, onclick: () => void open(chat, a) }, img);
}

/** Opens an attachment in a tab of its own. The storage decides whether it is shown or downloaded. */
async function open(chat: Parley, a: Attachment): Promise<void> {
  const address = await chat.files.url(a.id);
  if (address) h("a", { href: address, target: "_blank", rel: "noopener noreferrer", download: a.filename }).click();
}
