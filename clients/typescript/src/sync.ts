import { sleep, type ParleyError } from "./http.js";
import type { Parley } from "./parley.js";
import type { Room } from "./room.js";
import { Cell } from "./store.js";
import type { Conversation, Page, Ready, SyncAnswer } from "./types.js";

const conversationsAtOnce = 100;
const windowSize = 50;
const listPage = 100;
const listMost = 500;
const readsAtOnce = 4;
const repairAfter = 250;
const repairMost = 10_000;

/** Keeps all conversations in step with the server: the list at the start, `sync` after each `ready`, repairs in between. */
export class Sync {
  /** Whether everything that was committed before this connection is here. */
  readonly done = new Cell(false);
  private readonly todo = new Set<string>();
  private readonly repairs = new Map<string, ReturnType<typeof setTimeout>>();
  private listed = false;
  private wantUnknown = false;
  private wantState = false;
  private full = false;
  private stateRevision = 0;
  /** That of the copies held; the newest one that the server said. */
  private epoch: string | undefined;
  private newEpoch: string | undefined;
  /** Whether the server knows `window`, `only`, `epoch` and `state`. */
  modern = false;
  private running = false;
  private online = false;
  private nextCursor: string | null = null;
  private resyncTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly chat: Parley, private readonly rooms: Map<string, Room>) {}

  ready(ready: Ready): void {
    this.online = true;
    this.modern = ready.epoch !== undefined;
    this.epoch ??= ready.epoch;
    this.newEpoch = ready.epoch;
    void this.all();
  }

  down(): void {
    this.online = false;
    this.done.set(false);
    clearTimeout(this.resyncTimer);
    for (const t of this.repairs.values()) clearTimeout(t);
    this.repairs.clear();
  }

  /** The server asks for a `sync` at a random moment within some seconds. */
  resync(withinSeconds: number): void {
    clearTimeout(this.resyncTimer);
    this.resyncTimer = setTimeout(() => void this.all(), Math.random() * withinSeconds * 1000);
  }

  /** Something is missing in one conversation. It mostly comes by itself at once; if not, it is asked for. */
  repair(room: Room): void {
    if (this.repairs.has(room.id) || this.todo.has(room.id)) return;
    const wait = Math.min(repairMost, repairAfter * 2 ** room.repairs++);
    this.repairs.set(room.id, setTimeout(() => {
      this.repairs.delete(room.id);
      const s = room.state;
      if (!s || s.gone || (!s.partial && s.waiting.length === 0 && s.info.revision <= s.held)) return;
      this.todo.add(room.id);
      void this.run();
    }, wait * (1 + Math.random())));
  }

  private async all(): Promise<void> {
    for (const r of this.rooms.values()) {
      if (r.state && !r.state.gone) this.todo.add(r.id);
      else if (r.isOpen || !r.state) void r.read().catch(() => {});
    }
    this.wantState = this.modern;
    this.full = true;
    if (this.listed) this.wantUnknown = true;
    else await this.list().catch(() => {});
    await this.run();
  }

  /** Reads the list of conversations, the most active first. */
  private async list(): Promise<void> {
    let cursor: string | null = null;
    let n = 0;
    do {
      const page = await this.page(cursor);
      n += page.data.length;
      cursor = page.pagination.nextCursor;
    } while (cursor && n < listMost);
    this.nextCursor = cursor;
    this.listed = true;
    this.chat.listChanged();
  }

  private async page(cursor: string | null): Promise<Page<Conversation>> {
    const page = await this.chat.request<Page<Conversation>>("GET", `/conversations?limit=${listPage}` + (cursor ? "&cursor=" + encodeURIComponent(cursor) : ""));
    for (const c of page.data) this.chat.room(c.id).learn(c);
    return page;
  }

  get hasMore(): boolean {
    return this.nextCursor !== null;
  }

  async more(): Promise<void> {
    if (this.nextCursor) this.nextCursor = (await this.page(this.nextCursor)).pagination.nextCursor;
  }

  /** One `sync` at a time, the conversations that are shown first, until nothing is left to ask. */
  private async run(): Promise<void> {
    if (this.running) return;
    this.running = true;
    for (let tries = 0; this.online; ) {
      if (this.todo.size === 0 && !this.wantUnknown && !this.wantState) break;
      try {
        await this.one();
        tries = 0;
      } catch (err) {
        const { problem } = err as ParleyError;
        if (!this.online) break; // the next ready begins anew
        if (problem?.status === 400 && this.modern) {
          this.modern = this.wantState = false;
          continue;
        }
        const wait = problem?.retryAfterSeconds ? problem.retryAfterSeconds * 1000 : Math.min(30_000, 500 * 2 ** tries++);
        await sleep(wait * (0.5 + Math.random()));
      }
    }
    this.running = false;
    if (!this.online) return;
    if (this.full && this.listed) {
      this.full = false;
      this.epoch = this.newEpoch;
    }
    this.done.set(this.listed);
  }

  private async one(): Promise<void> {
    const rooms = [...this.todo].map((id) => this.rooms.get(id)).filter((r): r is Room => !!r?.state && !r.state.gone);
    rooms.sort((a, b) => Number(b.isOpen) - Number(a.isOpen));
    if (rooms.length > conversationsAtOnce) rooms.length = conversationsAtOnce;
    else for (const id of this.todo) if (!rooms.some((r) => r.id === id)) this.todo.delete(id);
    const asked = Object.fromEntries(rooms.map((r) => [r.id, r.state!.held]));
    const { wantUnknown, wantState } = this;
    if (rooms.length === 0 && !wantUnknown && !wantState) return;
    const answer = await this.chat.frame<SyncAnswer>("sync", {
      conversations: asked,
      ...(this.modern && { window: windowSize, only: !wantUnknown, epoch: this.epoch }),
      ...(this.modern && wantState && { state: this.stateRevision }),
    });
    for (const [id, part] of Object.entries(answer.conversations)) {
      if (part.complete) this.todo.delete(id);
      this.rooms.get(id)?.dispatch({ t: "sync", asked: asked[id] ?? 0, part });
    }
    for (const id of answer.gone) {
      this.todo.delete(id);
      this.rooms.get(id)?.dispatch({ t: "gone", reason: "removed" });
    }
    if (answer.epoch !== undefined) this.newEpoch = answer.epoch;
    this.own(answer);
    if (wantUnknown) {
      this.wantUnknown = false;
      void this.discover(answer.unknown).catch(() => {});
    }
  }

  private own({ state }: SyncAnswer): void {
    if (!state) {
      this.wantState = false;
      return;
    }
    for (const [id, own] of Object.entries(state.conversations)) {
      this.rooms.get(id)?.dispatch({ t: "own", stateRevision: state.revision, own });
    }
    this.stateRevision = Math.max(this.stateRevision, state.revision);
    this.wantState = !state.complete;
  }

  /** @internal */
  ownRevision(revision: number): void {
    // Only what follows is surely complete; a gap is found by the next sync.
    if (revision === this.stateRevision + 1) this.stateRevision = revision;
  }

  /** Conversations that are new to this device. */
  private async discover(unknown: string[]): Promise<void> {
    const missing = (): string[] => unknown.filter((id) => !this.rooms.get(id)?.state || this.rooms.get(id)!.state!.gone);
    if (missing().length === 0) return;
    if (missing().length > readsAtOnce || this.nextCursor) await this.page(null);
    if (this.nextCursor) return; // the list is longer than what is held
    const rest = missing();
    while (rest.length > 0 && this.online) {
      await Promise.all(rest.splice(0, readsAtOnce).map((id) => this.chat.room(id).read().catch(() => {})));
    }
  }
}
