import { h } from "./dom.js";
import { hueOf, initialsOf } from "./text.js";

/**
 * A circle with initials. Pictures are not loaded: their addresses may be any server's. The initials are no text, so that they
 * are no part of a button's name.
 */
export function avatar(id: string, name: string, online = false): HTMLElement {
  return h("span", { class: `avatar hue-${hueOf(id)}`, "aria-hidden": "true", "data-initials": initialsOf(name) }, online && h("span", { class: "dot" }));
}
