import { h, fill, scheduled, toast } from "../src/dom.js";
import { Comparison } from "./compare.js";
import { ask, poll, type Control } from "./control.js";
import { Side } from "./side.js";

/** Two people on two pods, what passes between them, and what can be taken from them. */
async function start(): Promise<void> {
  const control = await ask("GET");
  const [left, right] = await Promise.all(control.people.map((p, i) => Side.open(p, i, control.password)));
  if (!left || !right) throw new Error("The demo needs two pods.");
  const { id } = await left.chat.createDirect(right.userId);
  const sides = [left, right] as const;
  for (const side of sides) side.show(id);

  const verdict = h("p", { class: "verdict", role: "status" });
  const comparison = new Comparison(sides, id, ({ equal, text }) => {
    if (verdict.textContent === text) return;
    verdict.classList.toggle("equal", equal);
    fill(verdict, text);
  });
  const redis = h("button", { type: "button", class: "quiet", onclick: () => void act("redis") }, "Stop Redis for 10 s");
  redis.hidden = !control.canStopRedis;
  const both = h("button", { type: "button", class: "primary", onclick: () => void talk(sides) }, "Both send 10 messages");

  async function act(what: string): Promise<void> {
    try {
      draw(await ask("POST", what));
    } catch (err) {
      toast((err as Error).message);
    }
  }
  function draw(now: Control): void {
    redis.disabled = now.redisStopped;
    fill(redis, now.redisStopped ? "Redis is stopped" : "Stop Redis for 10 s");
    sides.forEach((side, i) => side.cut(now.people[i]!.cut));
  }

  document.body.append(h("div", { id: "root", class: "demo" },
    h("header", { class: "demo-head" }, h("div", { class: "demo-title" }, h("h1", null, "Two people, two pods"), verdict), h("div", { class: "row" }, both, redis)),
    h("main", { class: "sides" }, sides.map((side) => side.element(act)))));
  draw(control);
  poll(draw);
  comparison.run();
  for (const side of sides) {
    const compare = scheduled(() => comparison.soon());
    side.chat.on("frame", () => compare());
  }
}

let talks = 0;
const words = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];

/** Both write at once, whatever happens to them meanwhile. */
async function talk(sides: readonly Side[]): Promise<void> {
  const round = ++talks;
  for (const word of words) {
    for (const side of sides) side.send(`Round ${round}: ${word}`);
    await new Promise((r) => setTimeout(r, 150));
  }
}

start().catch((err: Error) => {
  document.body.append(h("main", { class: "centre" }, h("p", { class: "problem", role: "alert" }, `The demo could not start: ${err.message}`)));
});
