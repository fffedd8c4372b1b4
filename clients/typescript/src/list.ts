import type { Message } from "./types.js";

/** 32 children each, six levels of them: the path to a message is its seq, five bits at a time. */
type Node = readonly any[];

const top = 25;

function put(shift: number, m: Message, node: Node = []): Node {
  const copy = node.slice();
  const i = (m.seq >> shift) & 31;
  copy[i] = shift ? put(shift - 5, m, copy[i]) : m;
  return copy;
}

/**
 * Messages by seq, without a gap. A list is a value: a change returns another one, and copies the path to the message alone,
 * so that what a message costs does not grow with the history. `longhistory.test.ts` counts it.
 */
export class MessageList {
  private whole: readonly Message[] | undefined;

  /** @internal */
  constructor(
    /** The seq of the oldest message; `last + 1` if there is none. */
    readonly first: number,
    /** The seq of the newest. */
    readonly last: number,
    private readonly root: Node = [],
  ) {}

  get length(): number {
    return this.last + 1 - this.first;
  }

  /** The message of a seq. */
  at(seq: number): Message | undefined {
    if (seq < this.first || seq > this.last) return undefined;
    let node: any = this.root;
    for (let shift = top; shift >= 0; shift -= 5) node = node[(seq >> shift) & 31];
    return node;
  }

  /** The messages from one seq to another, both included, as far as they are held. */
  slice(from: number, to = this.last): Message[] {
    const out: Message[] = [];
    for (from = Math.max(from, this.first); from <= to && from <= this.last; from++) out.push(this.at(from)!);
    return out;
  }

  /** The newest message that passes the test. */
  find(test: (m: Message) => boolean): Message | undefined {
    let seq = this.last;
    while (seq >= this.first && !test(this.at(seq)!)) seq--;
    return this.at(seq);
  }

  /** All of them. The array is made when it is first read, and is the same from then on. */
  get all(): readonly Message[] {
    return (this.whole ??= this.slice(0));
  }

  /** The list with a message in its place, or at either end. @internal */
  with(m: Message): MessageList {
    return new MessageList(Math.min(this.first, m.seq), Math.max(this.last, m.seq), put(top, m, this.root));
  }

  /** A list of messages without a gap, which ends with `last`. @internal */
  static of(messages: readonly Message[], last: number): MessageList {
    return messages.reduce((list, m) => list.with(m), new MessageList(last + 1 - messages.length, last));
  }
}
