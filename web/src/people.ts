import type { Conversation, Member, Room, User } from "@parley-chat/client";
import { isMuted } from "@parley-chat/client";
import type { Host } from "./host.js";
import { attempt, closeDialogs, confirmed, dialog, fill, h, iconButton } from "./dom.js";
import { blocked, friendList, friendship } from "./friends.js";
import { person } from "./person.js";
import { lastSeen, peerOf, plural, titleOf } from "./text.js";

const pause = 300;
const fewestLetters = 2; // that the server searches for

/** A field that finds people, and buttons for those found. */
export function peopleSearch(app: Host, label: string, choose: (u: User) => void, except: (id: string) => boolean = () => false): HTMLElement {
  const found = h("ul", { class: "people", "aria-label": "Found" });
  const state = h("p", { class: "empty", role: "status" });
  const input = h("input", { type: "search", placeholder: label, "aria-label": label, autocomplete: "off" });
  let timer: ReturnType<typeof setTimeout> | undefined;
  let asked = 0;
  const ask = async (): Promise<void> => {
    const q = input.value.trim();
    const turn = ++asked;
    if ([...q].length < fewestLetters) return fill(found), fill(state, q && "Two letters at least.");
    try {
      const users = (await app.chat.search(q)).filter((u) => u.id !== app.chat.userId && !except(u.id));
      if (turn !== asked) return;
      fill(found, users.map((u) => h("li", null, h("button", { type: "button", class: "person", onclick: () => choose(u) }, person(u)))));
      fill(state, users.length === 0 && "Nobody found.");
    } catch (err) {
      if (turn === asked) fill(state, (err as Error).message);
    }
  };
  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => void ask(), pause);
  });
  return h("div", { class: "search" }, input, state, found);
}

/** Starts a conversation with one person, or a group of several. */
export function newChat(app: Host): void {
  const chosen = new Map<string, User>();
  const picked = h("ul", { class: "picked", "aria-label": "Chosen" });
  const name = h("input", { placeholder: "Name of the group", "aria-label": "Name of the group", maxlength: 100 });
  const start = h("button", { type: "button", class: "primary", onclick: () => void begin() }, "Start");
  const clientId = crypto.randomUUID();
  const draw = (): void => {
    fill(picked, [...chosen.values()].map((u) => h("li", { class: "chip" }, u.displayName, iconButton("close", `Leave out ${u.displayName}`, () => { chosen.delete(u.id); draw(); }))));
    name.hidden = chosen.size < 2;
    start.disabled = chosen.size === 0;
    fill(start, chosen.size < 2 ? "Start chat" : "Create group");
  };
  const begin = async (): Promise<void> => {
    const ids = [...chosen.keys()];
    const named = name.value.trim() || [...chosen.values()].map((u) => u.displayName).join(", ").slice(0, 100);
    start.disabled = true;
    await attempt((ids.length === 1 ? app.chat.createDirect(ids[0]!) : app.chat.createGroup({ name: named, memberIds: ids, clientId })).then((c) => {
      box.close();
      app.go(c.id);
    }));
    start.disabled = false;
  };
  const choose = (u: User): void => { chosen.set(u.id, u); draw(); };
  const known = friendList(app, choose);
  const box = dialog("New chat", [
    peopleSearch(app, "Find people by name", choose, (id) => chosen.has(id)),
    picked, name, h("div", { class: "row end" }, start), known.el,
  ], known.end);
  draw();
  box.querySelector("input")?.focus();
}

/** What a conversation is: its people and rights, and one's own state of it. */
export function details(app: Host, room: Room): void {
  const c = room.value.info;
  if (!c) return;
  const body = h("div", { class: "stack" });
  const box = dialog(titleOf(c, app.chat.userId), body);
  const again = async (what: Promise<unknown>): Promise<void> => {
    if (await attempt(what)) void draw();
  };
  const leave = async (what: () => Promise<unknown>): Promise<void> => {
    if (await attempt(what())) {
      box.close();
      app.go(undefined);
    }
  };
  const draw = async (): Promise<void> => {
    const info = room.value.info ?? c;
    fill(body, own(info, again), info.type === "direct" ? await direct(app, info, again) : h("p", null, "Loading…"));
    if (info.type === "group") body.replaceChild(await group(app, room, info, again, leave), body.lastChild!);
  };

  function own(info: Conversation, run: typeof again): HTMLElement {
    const toggle = (label: string, on: boolean, patch: Parameters<Room["setOwn"]>[0]): HTMLElement =>
      h("button", { type: "button", class: "chip", "aria-pressed": String(on), onclick: () => void run(room.setOwn(patch)) }, label);
    return h("div", { class: "chips", role: "group", "aria-label": "For you" },
      toggle(isMuted(info) ? "Muted" : "Mute", isMuted(info), { mutedUntil: isMuted(info) ? null : "forever" }),
      toggle(info.pinnedAt ? "Pinned" : "Pin to top", !!info.pinnedAt, { pinned: !info.pinnedAt }),
      toggle(info.archivedAt ? "Archived" : "Archive", !!info.archivedAt, { archived: !info.archivedAt }));
  }
  void draw();
}

/** Somebody's profile, and what one can do about them. */
export function profile(app: Host, u: User): void {
  const body = h("div", { class: "stack" });
  const there = h("p", { class: "faint-text" });
  const presence = app.chat.presence(u.id);
  const showPresence = (): void => fill(there, presence.value.status === "online" ? "online" : lastSeen(presence.value.lastSeenAt));
  dialog(u.displayName, body, presence.subscribe(showPresence));
  const draw = async (): Promise<void> => fill(body, there, await about(app, u, async (what) => { if (await attempt(what)) await draw(); }),
    h("div", { class: "row end" }, h("button", { type: "button", class: "primary", onclick: () => void attempt(app.chat.createDirect(u.id).then((c) => { closeDialogs(); app.go(c.id); })) }, "Write a message")));
  showPresence();
  void draw();
}

function direct(app: Host, c: Conversation, again: (p: Promise<unknown>) => Promise<void>): Promise<HTMLElement> | HTMLElement {
  const peer = peerOf(c, app.chat.userId);
  return peer ? about(app, peer, again) : h("p", null, "This account was deleted.");
}

async function about(app: Host, peer: User, again: (p: Promise<unknown>) => Promise<void>): Promise<HTMLElement> {
  const isBlocked = (await blocked(app).catch(() => [])).some((u) => u.id === peer.id);
  return h("div", { class: "stack" }, h("div", { class: "person" }, person(peer)),
    h("div", { class: "row" }, !isBlocked && await friendship(app, peer, again),
      h("button", { type: "button", class: isBlocked ? "quiet" : "danger", onclick: () => void again(app.chat.request(isBlocked ? "DELETE" : "PUT", `/blocks/${peer.id}`)) },
        isBlocked ? `Unblock ${peer.displayName}` : `Block ${peer.displayName}`)));
}

async function group(
  app: Host, room: Room, c: Conversation, again: (p: Promise<unknown>) => Promise<void>, leave: (p: () => Promise<unknown>) => Promise<void>,
): Promise<HTMLElement> {
  const me = app.chat.userId;
  const members: Member[] = [];
  const page = async (cursor?: string): Promise<string | null> => {
    const p = await room.members(cursor);
    members.push(...p.data);
    return p.pagination.hasMore ? p.pagination.nextCursor : null;
  };
  let next: string | null = null;
  if (!(await attempt(page().then((n) => (next = n))))) return h("p", null, "The members could not be read.");
  const role = (members.find((m) => m.user.id === me) ?? c.members.find((m) => m.user.id === me))?.role ?? "member";
  const runs = role !== "member";
  const list = h("ul", { class: "people", "aria-label": "Members" });
  const more = h("button", { type: "button", class: "quiet", onclick: () => void attempt(page(next!).then((n) => { next = n; draw(); })) }, "Show more");
  const draw = (): void => {
    more.hidden = next === null;
    fill(list, members.map((m) => {
      const other = m.user.id !== me && m.role !== "owner";
      return h("li", { class: "person" },
        m.user.id === me ? person(m.user) : h("button", { type: "button", class: "person", onclick: () => profile(app, m.user) }, person(m.user)),
        role === "owner" && other
          ? h("select", { "aria-label": `Role of ${m.user.displayName}`, onchange: (e: Event) => void again(room.setRole(m.user.id, (e.target as HTMLSelectElement).value as "admin")) },
            ["member", "admin", "owner"].map((r) => h("option", { value: r, selected: r === m.role }, r)))
          : h("span", { class: "faint-text" }, m.role),
        runs && other && (role === "owner" || m.role === "member") && iconButton("close", `Remove ${m.user.displayName}`, () => void again(room.removeMember(m.user.id))));
    }));
  };
  draw();
  const name = h("input", { value: c.name ?? "", "aria-label": "Name of the group", maxlength: 100, required: true });
  return h("div", { class: "stack" },
    runs && h("form", { class: "row", onsubmit: (e: Event) => { e.preventDefault(); void again(room.update({ name: name.value.trim() })); } }, name, h("button", { type: "submit", class: "quiet" }, "Rename")),
    h("h3", null, plural(c.memberCount, "member")), list, more,
    runs && peopleSearch(app, "Add people", (u) => void again(room.addMembers([u.id])), (id) => members.some((m) => m.user.id === id)),
    h("div", { class: "row" },
      h("button", { type: "button", class: "danger", onclick: () => void confirmed("Leave this group?", "Leave").then(async (yes) => { if (yes) await leave(() => room.leave()); }) }, "Leave group"),
      role === "owner" && h("button", { type: "button", class: "danger", onclick: () => void confirmed("Delete this group for everybody?", "Delete").then(async (yes) => { if (yes) await leave(() => room.destroy()); }) }, "Delete group")));
}
