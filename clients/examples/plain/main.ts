// A chat in plain TypeScript: sign in, pick a conversation, talk. <main id="app"></main> is all that the page needs.
import { Parley, Session, type Conversation, type Room } from "@parley-chat/client";

const url = new URLSearchParams(location.search).get("server") ?? location.origin;
const session = new Session({ url });
const app = document.querySelector<HTMLElement>("#app")!;

/** An element with its attributes and children; text is never read as HTML. */
function el(tag: string, attributes: Record<string, unknown> = {}, ...children: (Node | string)[]): HTMLElement {
  const e = Object.assign(document.createElement(tag), attributes);
  e.append(...children);
  return e;
}
const input = (attributes: object): HTMLInputElement => el("input", { ...attributes }) as HTMLInputElement;

function signIn(problem = ""): void {
  const name = input({ placeholder: "name", autocomplete: "username" });
  const password = input({ placeholder: "password", type: "password", autocomplete: "current-password" });
  const enter = (how: "login" | "register") => (): void => {
    session[how]({ username: name.value, password: password.value }).then(chat, (err: Error) => signIn(err.message));
  };
  app.replaceChildren(name, password, el("button", { onclick: enter("login") }, "Sign in"), el("button", { onclick: enter("register") }, "Sign up"), problem);
}

function chat(): void {
  const parley = new Parley({ url, token: session.token }).connect();
  const status = el("p"), list = el("ul"), log = el("ol"), find = input({ placeholder: "find people" }), text = input({ placeholder: "message" });
  let room: Room | undefined;
  let end = (): void => {};
  const open = (id: string): void => {
    end();
    room?.close();
    room = parley.open(id);
    end = room.subscribe(draw);
    draw();
  };
  const draw = (): void => {
    const { messages = [], drafts = [], typing = [] } = room?.value ?? {};
    const who = (id: string): string => parley.user(id).value?.displayName ?? "…";
    log.replaceChildren(
      ...messages.map((m) => el("li", {}, `${who(m.senderId)}: ${m.deletedAt ? "(deleted)" : m.content}`)),
      ...drafts.map((d) => el("li", { className: d.state }, `${d.content} (${d.problem?.detail ?? d.state})`)),
      ...typing.map((id) => el("li", {}, `${who(id)} types …`)),
    );
    if (document.hasFocus()) room?.markRead();
  };
  const title = (c: Conversation): string => c.name ?? c.members.find((m) => m.user.id !== parley.userId)?.user.displayName ?? "";
  const item = (c: Conversation): HTMLElement => el("li", {}, el("button", { onclick: () => open(c.id) }, `${title(c)} ${c.unreadCount || ""}`));
  parley.conversations.subscribe(() => list.replaceChildren(...parley.conversations.value.map(item)));
  parley.status.subscribe(() => {
    status.textContent = parley.status.value.state;
    if (status.textContent === "stopped") signIn("Signed out.");
  });
  text.oninput = () => room?.typing();
  text.onkeydown = (e) => {
    if (e.key !== "Enter" || !text.value.trim()) return;
    void room?.send(text.value);
    text.value = "";
  };
  find.onchange = async () => {
    const [found] = await parley.search(find.value);
    if (found) open((await parley.createDirect(found.id)).id);
  };
  app.replaceChildren(status, find, list, log, text);
}

session.user ? chat() : signIn();
