import { h } from "./dom.js";
import { hueOf, initialsOf } from "./text.js";

/** A circle with initials. Pictures are not loaded: their addresses may be any server's. */
export function avatar(id: string, name: string, online = false): HTMLElement {
  return h("span", { class: `avatar hue-${hueOf(id)}`, "aria-hidden": "true" }, initialsOf(name), online && h("span", { class: "dot" }));
}
