import type { ParleyError, Session } from "@parley-chat/client";
import { fill, h } from "./dom.js";

const labels: Record<string, string> = { displayName: "Your name", username: "Username", password: "Password" };

/** Sign in and sign up. It calls `done` once somebody is signed in. */
export function signIn(root: HTMLElement, session: Session, done: () => void, notice = ""): void {
  let fresh = false;
  const show = (): void => {
    const problem = h("p", { class: "problem", role: "alert" }, notice);
    const field = (name: string, props: Record<string, unknown>): HTMLElement =>
      h("label", null, h("span", null, labels[name]), h("input", { name, required: true, ...props }));
    const submit = h("button", { type: "submit", class: "primary" }, fresh ? "Create account" : "Sign in");
    const form = h("form", { class: "sign-in" },
      h("div", { class: "mark", "aria-hidden": "true" }), h("h1", null, fresh ? "Create your account" : "Sign in to Parley"),
      fresh && field("displayName", { autocomplete: "name", maxlength: 64 }),
      field("username", { autocomplete: "username", autocapitalize: "none", spellcheck: "false" }),
      field("password", { type: "password", autocomplete: fresh ? "new-password" : "current-password", ...(fresh && { minlength: 8 }) }),
      problem, submit,
      h("p", { class: "switch" }, fresh ? "You have an account? " : "New here? ",
        h("button", { type: "button", class: "link", onclick: () => { fresh = !fresh; notice = ""; show(); } }, fresh ? "Sign in" : "Create an account")));
    form.addEventListener("submit", (e) => {
      e.preventDefault();
      const data = new FormData(form);
      const text = (name: string): string => String(data.get(name) ?? "").trim();
      const account = { username: text("username"), password: String(data.get("password") ?? "") };
      submit.disabled = true;
      fill(problem);
      (fresh ? session.register({ ...account, displayName: text("displayName") }) : session.login(account)).then(done, (err: ParleyError) => {
        submit.disabled = false;
        const faults = err.problem?.errors ?? [];
        for (const input of form.querySelectorAll("input")) input.setAttribute("aria-invalid", String(faults.some((f) => f.field === input.name)));
        fill(problem, err.status === 0 ? "The server cannot be reached." : faults.length ? faults.map((f) => h("span", null, `${labels[f.field] ?? f.field} ${f.message}`)) : err.message);
      });
    });
    fill(root, h("main", { class: "centre" }, form));
    form.querySelector("input")?.focus();
  };
  show();
}
