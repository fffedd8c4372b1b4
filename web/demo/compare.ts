import type { Message } from "@parley-chat/client";
import type { Side } from "./side.js";

const pause = 1_000;
const most = 300; // messages, the newest, that are compared

export interface Verdict {
  readonly equal: boolean;
  readonly text: string;
}

/** What two copies of a message must agree on. */
const facts = (m: Message): string => JSON.stringify([m.id, m.seq, m.content, m.editedAt, m.deletedAt, m.replyToId, (m.reactions ?? []).map((r) => [r.reaction, r.count])]);

/** Compares what both people see with the history, again and again. */
export class Comparison {
  private busy = false;
  private again = false;

  constructor(private readonly sides: readonly Side[], private readonly id: string, private readonly say: (v: Verdict) => void) {}

  run(): void {
    setInterval(() => this.soon(), pause);
    this.soon();
  }

  /** Compares now, or once the comparison that runs is done. */
  soon(): void {
    if (this.busy) {
      this.again = true;
      return;
    }
    this.busy = true;
    void this.compare().then((v) => {
      this.say(v);
      this.busy = false;
      if (!this.again) return;
      this.again = false;
      this.soon();
    });
  }

  private async compare(): Promise<Verdict> {
    const truth = await this.history();
    if (!truth) return { equal: false, text: "No pod can be asked for the history." };
    const faults = this.sides.map((side) => fault(side, truth)).filter((f) => f !== "");
    const last = truth[truth.length - 1]?.seq ?? 0;
    return faults.length > 0 ? { equal: false, text: faults.join(" ") } : { equal: true, text: `Both panes equal the history, to message ${last}.` };
  }

  /** The newest messages by REST, from whichever pod is there. */
  private async history(): Promise<Message[] | undefined> {
    for (const side of this.sides) {
      if (side.lost) continue;
      try {
        return await side.newest(this.id, most);
      } catch {
        // the other one may know
      }
    }
    return undefined;
  }
}

function fault(side: Side, truth: readonly Message[]): string {
  const { messages, drafts } = side.value;
  if (drafts.length > 0) return `${side.name} has ${drafts.length} not sent yet.`;
  const last = truth[truth.length - 1]?.seq ?? 0;
  const held = messages[messages.length - 1]?.seq ?? 0;
  if (held < last) return `${side.name} is ${last - held} behind.`;
  const mine = new Map(messages.map((m) => [m.seq, facts(m)]));
  const from = Math.max(messages[0]?.seq ?? 0, truth[0]?.seq ?? 0);
  const wrong = truth.filter((m) => m.seq >= from && mine.get(m.seq) !== facts(m)).length;
  if (wrong > 0) return `${side.name} sees ${wrong} in another way.`;
  const seqs = messages.map((m) => m.seq);
  return seqs.some((s, i) => i > 0 && s !== seqs[i - 1]! + 1) ? `${side.name} has a gap.` : "";
}
