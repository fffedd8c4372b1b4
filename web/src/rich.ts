import { h } from "./dom.js";

/** Those mentioned, as they stand in a text, the longest first. */
export type Names = readonly { readonly name: string; readonly me: boolean }[];

// A block of code, code within a line, or an address.
const piece = /```(?:[\w+-]*\n)?([\s\S]+?)\n?```\n?|`([^`\n]+)`|\bhttps?:\/\/[^\s<>"'`]+[^\s<>"'`.,;:!?)\]]/g;
const emoji = /^(?:(?:\p{RI}{2}|\p{Extended_Pictographic}(?:\uFE0F|\p{EMod}|\u200D\p{Extended_Pictographic})*)\s*){1,6}$/u;

/** The text of a message: code, addresses as links, the names of those mentioned marked; a few emoji alone are large. */
export function textOf(text: string, names: Names): HTMLElement {
  const out: (Node | string)[] = [];
  let at = 0;
  for (const m of text.matchAll(piece)) {
    const [all, block, code] = m;
    out.push(...marked(text.slice(at, m.index), names));
    if (block !== undefined) out.push(h("code", { class: "block", tabindex: "0" }, block));
    else if (code !== undefined) out.push(h("code", null, code));
    else out.push(h("a", { href: all, target: "_blank", rel: "noopener noreferrer nofollow" }, all));
    at = m.index + all.length;
  }
  out.push(...marked(text.slice(at), names));
  return h("p", { dir: "auto", class: emoji.test(text) ? "large" : "" }, out);
}

function marked(text: string, names: Names): (Node | string)[] {
  const out: (Node | string)[] = [];
  for (let at = 0; at < text.length;) {
    const next = names.map((n) => ({ n, i: text.indexOf(n.name, at) })).filter(({ i }) => i >= 0).sort((a, b) => a.i - b.i)[0];
    if (!next) return [...out, text.slice(at)];
    out.push(text.slice(at, next.i), h("b", { class: next.n.me ? "mention me" : "mention" }, next.n.name));
    at = next.i + next.n.name.length;
  }
  return out;
}
