import type { Parley } from "@parley-chat/client";
import { attempt, fill, h, toast } from "./dom.js";

const path = "/push-worker.js";

interface Policy { createScriptURL(url: string): string }

// The page's policy lets this one address become a script, and nothing else.
let policy: Policy | undefined;

function register(): Promise<ServiceWorkerRegistration> {
  const types = (globalThis as { trustedTypes?: { createPolicy(name: string, rules: Policy): Policy } }).trustedTypes;
  policy ??= types?.createPolicy("parley-worker", { createScriptURL: () => path });
  return navigator.serviceWorker.register(policy ? policy.createScriptURL(path) : path);
}

const able = (): boolean => "serviceWorker" in navigator && "PushManager" in window && "Notification" in window;

/** The subscription of this browser, if it has one and may still show notifications. */
async function subscribed(): Promise<ServiceWorkerRegistration | undefined> {
  if (!able() || Notification.permission !== "granted") return undefined;
  const worker = await navigator.serviceWorker.getRegistration("/");
  return (await worker?.pushManager.getSubscription()) ? worker : undefined;
}

/** Subscribes this browser. A subscription for a former key of the server is replaced. */
async function enable(chat: Parley, worker: ServiceWorkerRegistration): Promise<void> {
  const [{ webPush }, held] = await Promise.all([
    chat.request<{ webPush: { publicKey: string } | null }>("GET", "/push/config"), worker.pushManager.getSubscription(),
  ]);
  const key = held?.options.applicationServerKey;
  const text = key && btoa(String.fromCharCode(...new Uint8Array(key))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=/g, "");
  if (text && webPush && text !== webPush.publicKey) await held?.unsubscribe();
  await chat.push.enable(worker);
}

/** Registers this browser again, at each start: whoever is signed in gets its pushes, and it is seen. */
export async function renewNotifications(chat: Parley): Promise<void> {
  const worker = await subscribed();
  if (worker) await enable(chat, worker).catch(() => undefined);
}

/** The settings of notifications. Nothing is shown if the server or the browser has no web push. */
export function notifications(chat: Parley): HTMLElement {
  const el = h("div", { class: "stack" });
  if (able()) void draw(chat, el).catch(() => undefined);
  return el;
}

interface Preferences { level: "all" | "mentions" | "none"; preview: boolean }

async function draw(chat: Parley, el: HTMLElement): Promise<void> {
  const { webPush } = await chat.request<{ webPush: unknown }>("GET", "/push/config");
  if (!webPush) return;
  const [now, on] = await Promise.all([chat.request<Preferences>("GET", "/push/preferences"), subscribed()]);
  const save = (change: Partial<Preferences>): void => void attempt(chat.request("PATCH", "/push/preferences", change));
  const here = h("input", { type: "checkbox", checked: on !== undefined, onchange: () => void toggle(chat, here) });
  const levels = { all: "All messages", mentions: "Mentions of me", none: "Nothing" };
  fill(el, h("h3", null, "Notifications"),
    h("label", { class: "check" }, here, h("span", null, "Notify me on this device while I am not looking")),
    h("label", null, h("span", null, "Notify me of"),
      h("select", { onchange: (e: Event) => save({ level: (e.target as HTMLSelectElement).value as Preferences["level"] }) },
        Object.entries(levels).map(([value, label]) => h("option", { value, selected: value === now.level }, label)))),
    h("label", { class: "check" }, h("input", { type: "checkbox", checked: now.preview, onchange: (e: Event) => save({ preview: (e.target as HTMLInputElement).checked }) }),
      h("span", null, "Show the text of messages")));
}

async function toggle(chat: Parley, here: HTMLInputElement): Promise<void> {
  const wanted = here.checked;
  here.disabled = true;
  try {
    const worker = await register();
    await (wanted ? enable(chat, worker) : chat.push.disable(worker));
  } catch (err) {
    here.checked = !wanted;
    toast(Notification.permission === "denied" ? "The browser does not allow notifications of this page." : (err as Error).message);
  }
  here.disabled = false;
}
