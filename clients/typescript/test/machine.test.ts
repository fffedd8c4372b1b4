import assert from "node:assert/strict";
import { test } from "node:test";
import { begin, changeOf, step, type Effect, type Input, type State } from "../src/machine.js";
import { conversation, message } from "./fixtures.js";

function play(state: State, ...inputs: Input[]): [State, Effect[]] {
  const effects: Effect[] = [];
  for (const i of inputs) {
    const [next, e] = step(state, i);
    state = next;
    effects.push(...e);
  }
  return [state, effects];
}

const frame = (type: string, data: unknown): Input => ({ t: "change", change: changeOf(type, data)![1] });
const seqs = (s: State): number[] => s.messages.all.map((m) => m.seq);

test("a change after a gap waits until the gap is filled", () => {
  let [s, effects] = play(begin("me", conversation({ revision: 5, lastSeq: 3 })), frame("message:new", message(5, 7)));
  assert.deepEqual(seqs(s), []);
  assert.equal(s.held, 5);
  assert.deepEqual(effects, [{ e: "repair" }]);
  [s] = play(s, frame("message:new", message(4, 6)));
  assert.deepEqual(seqs(s), [4, 5]);
  assert.equal(s.held, 7);
});

test("the state keeps its identity if nothing changes", () => {
  const [s] = play(begin("me", conversation({ revision: 5, lastSeq: 3 })), frame("message:new", message(4, 6)));
  const [again] = play(s, frame("message:new", message(4, 6)));
  assert.equal(again, s);
});

test("a page that was read before an edit does not bring the old text back", () => {
  const c = conversation({ revision: 5, lastSeq: 3 });
  const edited = { ...message(2, 6), content: "new", editedAt: "2026-11-23T10:00:00.000000Z" };
  const [s] = play(begin("me", c), { t: "load", load: 1 }, frame("message:updated", edited), { t: "page", load: 1, messages: [message(1, 1), message(2, 2), message(3, 3)] });
  assert.deepEqual(s.messages.all.map((m) => m.content), ["m1", "new", "m3"]);
});
