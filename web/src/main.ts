import { Parley, Session } from "@parley-chat/client";
import { App } from "./app.js";
import { h } from "./dom.js";
import { signIn } from "./signin.js";

const session = new Session();
const root = h("div", { id: "root" });
document.body.append(root);

function start(notice = ""): void {
  if (!session.user) {
    signIn(root, session, () => start(), notice);
    return;
  }
  const chat = new Parley({ token: session.token }).connect();
  new App(root, chat, session, (reason) => start(reason));
}

start();
