import type { Conversation, Parley, User } from "@parley-chat/client";

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const date = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });
const short = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });

/** The midnight before a time, by this device's clock. */
export function dayStart(time: number): number {
  return new Date(time).setHours(0, 0, 0, 0);
}

/** How many days ago something was, by this device's calendar. */
function daysAgo(t: Date): number {
  return Math.round((dayStart(Date.now()) - dayStart(t.getTime())) / 86_400_000);
}

export const timeOf = (iso: string): string => clock.format(new Date(iso));

export function dayOf(iso: string): string {
  const t = new Date(iso);
  const days = daysAgo(t);
  return days === 0 ? "Today" : days === 1 ? "Yesterday" : date.format(t);
}

export function briefTime(iso: string): string {
  const t = new Date(iso);
  return daysAgo(t) === 0 ? clock.format(t) : short.format(t);
}

export function lastSeen(iso: string | null): string {
  if (!iso) return "offline";
  const t = new Date(iso);
  return daysAgo(t) === 0 ? `last seen at ${clock.format(t)}` : `last seen on ${short.format(t)}`;
}

export function sizeOf(bytes: number): string {
  return bytes < 1024 ? `${bytes} B` : bytes < 1 << 20 ? `${Math.round(bytes / 1024)} KB` : `${(bytes / (1 << 20)).toFixed(1)} MB`;
}

/** The other person of a direct conversation. */
export function peerOf(c: Conversation, me: string | undefined): User | undefined {
  return c.type === "direct" ? c.members.find((m) => m.user.id !== me)?.user : undefined;
}

export function titleOf(c: Conversation, me: string | undefined): string {
  if (c.type === "group") return c.name || "Group";
  return peerOf(c, me)?.displayName || "Deleted account";
}

/** A person's name, from the conversation or from their profile. */
export function nameOf(chat: Parley, id: string, c?: Conversation): string {
  const known = c?.members.find((m) => m.user.id === id)?.user ?? chat.user(id).value;
  return known?.displayName ?? "…";
}

export function initialsOf(name: string): string {
  const words = name.trim().split(/\s+/);
  const first = (s: string | undefined): string => (s ? ([...s][0] ?? "") : "");
  return (first(words[0]) + (words.length > 1 ? first(words[words.length - 1]) : "")).toUpperCase() || "?";
}

/** One of eight colours, the same for a person each time. */
export function hueOf(id: string): number {
  let n = 0;
  for (const c of id) n = (n * 31 + c.charCodeAt(0)) % 8191;
  return n % 8;
}

/** Who a sentence is about: "Anna", "Anna and Ben", "Anna and 3 others". */
export function people(names: readonly string[]): string {
  if (names.length <= 2) return names.join(" and ");
  return `${names[0]} and ${names.length - 1} others`;
}

export const plural = (n: number, one: string, many = one + "s"): string => `${n} ${n === 1 ? one : many}`;
