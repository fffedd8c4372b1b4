import type { Privacy, SessionInfo } from "@parley-chat/client";
import type { App } from "./app.js";
import { attempt, dialog, fill, h, toast } from "./dom.js";
import { drawBlocked } from "./friends.js";
import { notifications } from "./notify.js";
import { briefTime } from "./text.js";

/** Profile, privacy, password, sessions, and signing out. */
export function settings(app: App): void {
  const { chat } = app;
  const me = chat.me.value ?? app.session.user;
  const name = h("input", { value: me?.displayName ?? "", maxlength: 64, required: true });
  const profile = h("form", { class: "stack" }, h("label", null, h("span", null, "Your name"), name),
    h("p", { class: "faint-text" }, `@${me?.username ?? ""}`), h("div", { class: "row end" }, h("button", { type: "submit", class: "quiet" }, "Save")));
  profile.addEventListener("submit", (e) => {
    e.preventDefault();
    void attempt(chat.updateMe({ displayName: name.value.trim() })).then((ok) => ok && toast("Saved."));
  });
  const privacy = h("div", { class: "stack" });
  const sessions = h("ul", { class: "people", "aria-label": "Sessions" });
  const blocks = h("ul", { class: "people", "aria-label": "Blocked people" });
  dialog("Settings", [
    profile, h("h3", null, "Privacy"), privacy, notifications(chat), h("h3", null, "Blocked"), blocks, h("h3", null, "Password"), password(app), h("h3", null, "Signed in on"), sessions,
    h("div", { class: "row end" }, h("button", { type: "button", class: "danger", onclick: () => void app.logout() }, "Log out")),
  ]);
  void drawPrivacy(app, privacy);
  void drawSessions(app, sessions);
  void drawBlocked(app, blocks);
}

async function drawPrivacy(app: App, el: HTMLElement): Promise<void> {
  let now: Privacy;
  try {
    now = await app.chat.request<Privacy>("GET", "/users/me/privacy");
  } catch (err) {
    return fill(el, (err as Error).message);
  }
  const save = (patch: Partial<Privacy>): void => void attempt(app.chat.request("PATCH", "/users/me/privacy", patch)).then(async (ok) => { if (!ok) await drawPrivacy(app, el); });
  const choices = { everyone: "Everyone", friends: "Friends", nobody: "Nobody" };
  fill(el,
    h("label", null, h("span", null, "Who sees when you are online"),
      h("select", { onchange: (e: Event) => save({ presenceSharing: (e.target as HTMLSelectElement).value as Privacy["presenceSharing"] }) },
        Object.entries(choices).map(([value, label]) => h("option", { value, selected: value === now.presenceSharing }, label)))),
    h("label", { class: "check" }, h("input", { type: "checkbox", checked: now.readReceiptsEnabled, onchange: (e: Event) => save({ readReceiptsEnabled: (e.target as HTMLInputElement).checked }) }),
      h("span", null, "Show others what you have read, and see what they have read")));
}

function password(app: App): HTMLElement {
  const old = h("input", { type: "password", autocomplete: "current-password", required: true });
  const next = h("input", { type: "password", autocomplete: "new-password", minlength: 8, required: true });
  const form = h("form", { class: "stack" }, h("input", { type: "text", class: "visually-hidden", autocomplete: "username", value: app.session.user?.username ?? "", tabindex: "-1", "aria-hidden": "true", readonly: true }),
    h("label", null, h("span", null, "Current password"), old), h("label", null, h("span", null, "New password"), next),
    h("div", { class: "row end" }, h("button", { type: "submit", class: "quiet" }, "Change password")));
  form.addEventListener("submit", (e) => {
    e.preventDefault();
    void attempt(app.chat.request("POST", "/auth/password", { current: old.value, new: next.value })).then((ok) => {
      if (!ok) return;
      form.reset();
      toast("The password was changed. Other devices are signed out.");
    });
  });
  return form;
}

async function drawSessions(app: App, el: HTMLElement): Promise<void> {
  try {
    const { data } = await app.chat.request<{ data: SessionInfo[] }>("GET", "/auth/sessions");
    const others = data.filter((s) => !s.current);
    const end = (ending: Promise<void>): void => void attempt(ending).then(() => drawSessions(app, el));
    fill(el, data.map((s) => h("li", { class: "person" },
      h("span", { class: "row-main" }, h("span", { class: "row-title" }, s.current ? "This device" : browserOf(s.userAgent)), h("span", { class: "faint-text" }, `Last used ${briefTime(s.lastUsedAt)}`)),
      !s.current && h("button", { type: "button", class: "quiet", onclick: () => end(endSessions(app, [s])) }, "Sign out"))),
      others.length > 1 && h("li", { class: "row end" }, h("button", { type: "button", class: "quiet", onclick: () => end(endOthers(app)) }, "Sign out everywhere else")));
  } catch (err) {
    fill(el, (err as Error).message);
  }
}

/** Ends all sessions but this one, those that began after the list was drawn too. */
async function endOthers(app: App): Promise<void> {
  for (let tries = 0; tries < 5; tries++) {
    const { data } = await app.chat.request<{ data: SessionInfo[] }>("GET", "/auth/sessions");
    const others = data.filter((s) => !s.current);
    if (others.length === 0) return;
    await endSessions(app, others);
  }
}

/** Ends sessions, some at a time. One that has ended meanwhile is no fault. */
async function endSessions(app: App, some: readonly SessionInfo[]): Promise<void> {
  const rest = [...some];
  while (rest.length > 0) {
    await Promise.all(rest.splice(0, 8).map((s) => app.chat.request("DELETE", `/auth/sessions/${s.id}`).catch((err: { status?: number }) => {
      if (err.status !== 404) throw err;
    })));
  }
}

function browserOf(agent: string): string {
  const name = /(Edg|OPR|Firefox|Chrome|Safari)\//.exec(agent)?.[1];
  const system = /(Android|iPhone|iPad|Windows|Mac OS X|Linux)/.exec(agent)?.[1];
  return name ? `${name === "Edg" ? "Edge" : name === "OPR" ? "Opera" : name}${system ? ` on ${system}` : ""}` : agent.slice(0, 40) || "Unknown device";
}
