import type { Page, User } from "@parley-chat/client";
import { attempt, fill, h } from "./dom.js";
import type { Host } from "./host.js";
import { person } from "./person.js";

interface Relation {
  user: User;
}

interface Requests {
  incoming: Relation[];
  outgoing: Relation[];
}

const most = 100;

const requests = (app: Host): Promise<Requests> => app.chat.request<Requests>("GET", `/friends/requests?limit=${most}`);
const friends = async (app: Host): Promise<User[]> => (await app.chat.request<Page<Relation>>("GET", `/friends?limit=${most}`)).data.map((r) => r.user);
export const blocked = async (app: Host): Promise<User[]> => (await app.chat.request<Page<Relation>>("GET", `/blocks?limit=${most}`)).data.map((r) => r.user);

const ask = (app: Host, u: User): Promise<unknown> => app.chat.request("POST", "/friends/requests", { userId: u.id });
const accept = (app: Host, u: User): Promise<unknown> => app.chat.request("POST", `/friends/requests/${u.id}/accept`);
const drop = (app: Host, u: User): Promise<unknown> => app.chat.request("DELETE", `/friends/requests/${u.id}`);
const unfriend = (app: Host, u: User): Promise<unknown> => app.chat.request("DELETE", `/friends/${u.id}`);

/** Requests that wait for an answer, and friends, of whom one is chosen by a click. `end` stops following changes. */
export function friendList(app: Host, choose: (u: User) => void): { el: HTMLElement; end: () => void } {
  const el = h("div", { class: "stack" });
  const draw = async (): Promise<void> => {
    const [waiting, all] = await Promise.all([requests(app), friends(app)]).catch(() => [{ incoming: [], outgoing: [] }, []] as [Requests, User[]]);
    const act = (label: string, look: string, what: () => Promise<unknown>, name: string): HTMLElement =>
      h("button", { type: "button", class: look, "aria-label": `${label} ${name}`, onclick: () => void attempt(what()).then(() => draw()) }, label);
    fill(el,
      waiting.incoming.length > 0 && [h("h3", null, "Want to be friends"), h("ul", { class: "people", "aria-label": "Requests" }, waiting.incoming.map(({ user }) =>
        h("li", { class: "person" }, person(user), act("Accept", "quiet", () => accept(app, user), user.displayName), act("Decline", "link", () => drop(app, user), user.displayName))))],
      all.length > 0 && [h("h3", null, "Friends"), h("ul", { class: "people", "aria-label": "Friends" }, all.map((u) =>
        h("li", null, h("button", { type: "button", class: "person", onclick: () => choose(u) }, person(u)))))]);
  };
  void draw();
  return { el, end: app.chat.on("friend", () => void draw()) };
}

/** What one can do about being friends with somebody. */
export async function friendship(app: Host, u: User, run: (p: Promise<unknown>) => Promise<void>): Promise<HTMLElement> {
  const [waiting, all] = await Promise.all([requests(app), friends(app)]).catch(() => [{ incoming: [], outgoing: [] }, []] as [Requests, User[]]);
  const has = (list: Relation[]): boolean => list.some((r) => r.user.id === u.id);
  const button = (label: string, what: () => Promise<unknown>): HTMLElement => h("button", { type: "button", class: "quiet", onclick: () => void run(what()) }, label);
  return h("div", { class: "row" },
    all.some((f) => f.id === u.id) ? button("Remove from friends", () => unfriend(app, u))
      : has(waiting.incoming) ? [button("Accept as a friend", () => accept(app, u)), button("Decline", () => drop(app, u))]
        : has(waiting.outgoing) ? button("Take the request back", () => drop(app, u))
          : button("Add to friends", () => ask(app, u)));
}

/** Those whom one blocks, each with a way back. */
export async function drawBlocked(app: Host, el: HTMLElement): Promise<void> {
  const list = await blocked(app).catch(() => []);
  fill(el, list.length === 0 ? h("li", { class: "faint-text" }, "Nobody.") : list.map((u) => h("li", { class: "person" }, person(u),
    h("button", { type: "button", class: "quiet", "aria-label": `Unblock ${u.displayName}`, onclick: () => void attempt(app.chat.request("DELETE", `/blocks/${u.id}`)).then(() => drawBlocked(app, el)) }, "Unblock"))));
}
