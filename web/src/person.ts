import type { User } from "@parley-chat/client";
import { avatar } from "./avatar.js";
import { h } from "./dom.js";

/** Somebody in a list: their circle, name and username. */
export function person(u: User): HTMLElement[] {
  return [avatar(u.id, u.displayName), h("span", { class: "row-main" }, h("span", { class: "row-title" }, u.displayName), h("span", { class: "faint-text" }, "@" + u.username))];
}
