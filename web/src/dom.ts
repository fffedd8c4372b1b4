/** Elements without a framework: making them, and keeping lists of them in step with data. */

export type Child = Node | string | number | null | undefined | false | readonly Child[];
type Props = Record<string, unknown>;

/** Makes an element. `on…` functions listen, booleans toggle attributes, `class` and `value` are properties, null leaves out. */
export function h<K extends keyof HTMLElementTagNameMap>(tag: K, props?: Props | null, ...children: Child[]): HTMLElementTagNameMap[K] {
  const el = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined) continue;
    if (name.startsWith("on") && typeof value === "function") el.addEventListener(name.slice(2), value as EventListener);
    else if (name === "class") el.className = String(value);
    else if (name === "value") (el as unknown as { value: string }).value = String(value);
    else if (typeof value === "boolean") el.toggleAttribute(name, value);
    else el.setAttribute(name, String(value));
  }
  add(el, children);
  return el;
}

function add(el: Element, children: readonly Child[]): void {
  for (const c of children) {
    if (c === null || c === undefined || c === false) continue;
    if (Array.isArray(c)) add(el, c as readonly Child[]);
    else el.append(c instanceof Node ? c : String(c));
  }
}

/** Replaces what an element holds. */
export function fill(el: Element, ...children: Child[]): void {
  el.replaceChildren();
  add(el, children);
}

/** Shows a text, and touches the element only if it is another one. */
export function say(el: Element, text: string): void {
  if (el.textContent !== text) el.textContent = text;
}

const paths = {
  back: "M15 5l-7 7 7 7", send: "M4 12h15M13 5l7 7-7 7", plus: "M12 5v14M5 12h14", more: "M5 11v2M12 11v2M19 11v2",
  smile: "M12 3a9 9 0 1 0 .01 0M8 14.5a4.7 4.7 0 0 0 8 0M9 9.5v.5M15 9.5v.5",
  reply: "M9 7l-5 5 5 5M4 12h10a6 6 0 0 1 6 6", edit: "M4 20h4L19 9l-4-4L4 16z", remove: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
  close: "M6 6l12 12M18 6L6 18", attach: "M19 11l-7 7a5 5 0 0 1-7-7l8-8a3.3 3.3 0 0 1 5 5l-8 8a1.7 1.7 0 0 1-2.5-2.5l7-7",
  settings: "M4 7h9M17 7h3M4 17h3M11 17h9M15 5v4M9 15v4", down: "M6 9l6 6 6-6", pin: "M9 4h6l-1 7 3 3H7l3-3zM12 14v6",
  unread: "M4 6h16v12H4zM4 7l8 6 8-6M19 3h.01", muted: "M4 9v6h4l5 4V5L8 9zM17 9l4 6M21 9l-4 6",
};
const svg = "http://www.w3.org/2000/svg";

/** A drawing of lines. It is hidden from screen readers: its button has a label. */
export function icon(name: keyof typeof paths): SVGSVGElement {
  const el = document.createElementNS(svg, "svg");
  const path = document.createElementNS(svg, "path");
  el.setAttribute("viewBox", "0 0 24 24");
  el.setAttribute("class", "icon");
  el.setAttribute("aria-hidden", "true");
  path.setAttribute("d", paths[name]);
  el.append(path);
  return el;
}

/** A button that is only a drawing. */
export function iconButton(name: keyof typeof paths, label: string, onclick: (e: MouseEvent) => void, props: Props = {}): HTMLButtonElement {
  return h("button", { type: "button", class: "icon-button", "aria-label": label, title: label, onclick, ...props }, icon(name));
}

export interface Item {
  readonly key: string;
  /** What the element is made from: it is made again if one of these is another. */
  readonly stamp: readonly unknown[];
  readonly make: () => HTMLElement;
}

const kept = new WeakMap<Element, Map<string, { el: HTMLElement; stamp: readonly unknown[] }>>();

/** Makes the children those of the items, in their order. An element stays while its stamp does; focus moves to its successor. */
export function reconcile(parent: HTMLElement, items: readonly Item[]): void {
  const before = kept.get(parent) ?? new Map<string, { el: HTMLElement; stamp: readonly unknown[] }>();
  const now: typeof before = new Map();
  const focused = document.activeElement;
  let refocus: HTMLElement | null = null;
  for (const item of items) {
    const old = before.get(item.key);
    if (old && old.stamp.length === item.stamp.length && old.stamp.every((s, i) => s === item.stamp[i])) {
      now.set(item.key, old);
      continue;
    }
    const el = item.make();
    if (old && focused && old.el.contains(focused)) {
      const part = (focused as HTMLElement).dataset.focus;
      refocus = (part ? el.querySelector<HTMLElement>(`[data-focus="${CSS.escape(part)}"]`) : null) ?? el;
    }
    now.set(item.key, { el, stamp: item.stamp });
  }
  for (const [key, { el }] of before) if (now.get(key)?.el !== el) el.remove();
  let at = parent.firstChild;
  for (const { el } of now.values()) {
    if (el === at) at = at.nextSibling;
    else parent.insertBefore(el, at);
  }
  kept.set(parent, now);
  refocus?.focus({ preventScroll: true });
}

/** The element of an item; undefined if it is not shown. */
export function elementOf(parent: HTMLElement, key: string): HTMLElement | undefined {
  return kept.get(parent)?.get(key)?.el;
}

const rest = 50;

/**
 * Returns a function that runs `draw` once for all its calls until the next frame: at once after a pause, every 50 ms while calls
 * pour in, so that the frames between are left to keys and scrolling. With `now` it is the next frame in any case. A page that is
 * hidden has no frames.
 */
export function scheduled(draw: () => void): (now?: boolean) => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let framed = false;
  let last = -rest;
  const run = (): void => {
    framed = false;
    last = performance.now();
    draw();
  };
  const frame = (): void => {
    timer = undefined;
    framed = true;
    if (document.visibilityState === "visible") requestAnimationFrame(run);
    else setTimeout(run, 100);
  };
  return (now = false) => {
    if (framed || (timer !== undefined && !now)) return;
    clearTimeout(timer);
    const wait = now ? 0 : last + rest - performance.now();
    if (wait > 0) timer = setTimeout(frame, wait);
    else frame();
  };
}

/** A modal dialog. It closes by Escape, its cross, or `close()`, and calls `closed` then. */
export function dialog(title: string, body: Child, closed?: () => void): HTMLDialogElement {
  const id = "d" + Math.random().toString(36).slice(2);
  const el = h("dialog", { "aria-labelledby": id },
    h("header", null, h("h2", { id }, title), iconButton("close", "Close", () => el.close())), h("div", { class: "dialog-body" }, body));
  el.addEventListener("close", () => {
    el.remove();
    closed?.();
  });
  el.addEventListener("click", (e) => {
    if (e.target === el) el.close();
  });
  document.body.append(el);
  el.showModal();
  return el;
}

/** Closes all dialogs: one may have been opened from another. */
export function closeDialogs(): void {
  for (const d of document.querySelectorAll("dialog")) d.close();
}

/** Asks whether to do what cannot be undone. */
export function confirmed(question: string, action: string): Promise<boolean> {
  return new Promise((resolve) => {
    let yes = false;
    const el = dialog(question, h("div", { class: "row end" },
      h("button", { type: "button", class: "quiet", onclick: () => el.close() }, "Cancel"),
      h("button", { type: "button", class: "danger", onclick: () => { yes = true; el.close(); } }, action)), () => resolve(yes));
  });
}

let toasts: HTMLElement | undefined;

/** Shows a sentence for some seconds, read out at once. */
export function toast(text: string): void {
  toasts ??= h("div", { class: "toasts", role: "alert" });
  (document.querySelector("dialog[open]") ?? document.body).append(toasts);
  const el = h("p", null, text);
  toasts.append(el);
  setTimeout(() => el.remove(), 6_000);
}

/** Runs something that may fail, and shows why it did. It returns whether it succeeded. */
export async function attempt(what: Promise<unknown>): Promise<boolean> {
  try {
    await what;
    return true;
  } catch (err) {
    toast((err as Error).message || "That did not work.");
    return false;
  }
}
