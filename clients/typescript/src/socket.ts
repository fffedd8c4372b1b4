import { call, failure, ParleyError, type Fetch } from "./http.js";
import { Cell } from "./store.js";
import type { Tokens } from "./token.js";
import type { Frame, Problem, Ready } from "./types.js";

/** The part of the WebSocket interface that the client uses; a browser's, Node's and `ws`' fit. */
export interface WebSocketLike {
  readonly readyState: number;
  onopen: ((e: any) => void) | null;
  onmessage: ((e: any) => void) | null;
  onclose: ((e: any) => void) | null;
  onerror: ((e: any) => void) | null;
  send(data: string): void;
  close(code?: number, reason?: string): void;
}
export type WebSocketConstructor = new (url: string, protocols: string[]) => WebSocketLike;

/** Where the connection stands. After `stopped` nothing is tried until `connect()`. */
export type Status =
  | { readonly state: "idle" | "connecting" | "online" }
  /** `retryAt` is in milliseconds since 1970. */
  | { readonly state: "waiting"; readonly retryAt: number; readonly problem?: Problem }
  | { readonly state: "stopped"; readonly reason: "closed" | "signed_out" | "banned" | "replaced"; readonly problem?: Problem };

const backOffFirst = 500;
const backOffMost = 30_000;
const stableAfter = 60_000;
const connectTimeout = 15_000;
const ackTimeout = 10_000;
const probeTimeout = 5_000;
const authAhead = 60_000;

/** The bounds of the random wait before the n-th attempt in a row: full jitter, doubling from half a second to half a minute. */
export const backOff = (attempt: number): number => Math.min(backOffMost, backOffFirst * 2 ** Math.min(attempt, 16));

export interface SocketOptions {
  base: string;
  deviceId: string;
  WebSocket: WebSocketConstructor;
  fetch: Fetch;
  tokens: Tokens;
  onReady(ready: Ready): void;
  onFrame(frame: Frame): void;
  onDown(): void;
  onTraffic?(direction: "in" | "out", frame: Frame): void;
}

interface Waiter {
  resolve(data: any): void;
  reject(err: ParleyError): void;
  timer: ReturnType<typeof setTimeout>;
}

/** Keeps one socket open: when to try, when to give one up, what each close code means. */
export class Socket {
  readonly status = new Cell<Status>({ state: "idle" });
  private ws: WebSocketLike | undefined;
  private ready: Ready | undefined;
  private attempt = 0;
  private refusals = 0;
  private refused: string | undefined;
  private readyAt = 0;
  private heardAt = 0;
  private nextId = 1;
  private token = "";
  private readonly waiters = new Map<string, Waiter>();
  private retry: ReturnType<typeof setTimeout> | undefined;
  private watch: ReturnType<typeof setTimeout> | undefined;
  private renewal: ReturnType<typeof setTimeout> | undefined;
  private run = 0;

  constructor(private readonly o: SocketOptions) {}

  connect(): void {
    const { state } = this.status.value;
    if (state === "connecting" || state === "online") return;
    if (state === "stopped") this.attempt = this.refusals = 0;
    this.listen(true);
    void this.open();
  }

  close(): void {
    this.stop("closed");
  }

  /** Something suggests that the network is there again, or the page was asleep: try at once, or see whether the socket lives. */
  wake = (): void => {
    const { state } = this.status.value;
    if (state === "waiting") void this.open();
    else if (state === "online") this.probe();
  };

  /** Sends a frame; rejected with `offline` if there is no socket, with `timeout` if no answer comes. */
  request<T>(type: string, data?: unknown): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      if (!this.ready) return reject(failure("offline", "the socket is not open"));
      const id = String(this.nextId++);
      const timer = setTimeout(() => {
        this.waiters.delete(id);
        reject(failure("timeout", "no answer in time"));
        this.probe();
      }, ackTimeout);
      this.waiters.set(id, { resolve, reject, timer });
      this.write({ type, id, data });
    });
  }

  /** Sends a frame that has no answer, if there is a socket. */
  post(type: string, data?: unknown): void {
    if (this.ready) this.write({ type, data });
  }

  private write(frame: Frame): void {
    this.o.onTraffic?.("out", frame);
    this.ws!.send(JSON.stringify(frame));
  }

  private async open(): Promise<void> {
    clearTimeout(this.retry);
    const run = ++this.run;
    this.status.set({ state: "connecting" });
    try {
      this.token = await this.o.tokens.get(this.refused);
    } catch (err) {
      if (run !== this.run) return;
      const { problem } = err instanceof ParleyError ? err : failure("token", String(err));
      return problem.code === "signed_out" || problem.status === 401 ? this.stop("signed_out", problem) : this.later(problem);
    }
    if (run !== this.run) return;
    const url = this.o.base.replace(/^http/, "ws") + "/ws?deviceId=" + encodeURIComponent(this.o.deviceId);
    let ws: WebSocketLike;
    try {
      ws = new this.o.WebSocket(url, ["parley.v1", "bearer." + this.token]);
    } catch (err) {
      return this.later(failure("offline", String(err)).problem);
    }
    this.ws = ws;
    const slow = setTimeout(() => this.lost(ws, 0, ""), connectTimeout);
    ws.onmessage = (e) => {
      if (this.ws !== ws) return;
      let frame: Frame;
      try {
        frame = JSON.parse(e.data as string) as Frame;
      } catch {
        return;
      }
      if (frame.type === "ready") clearTimeout(slow);
      this.receive(frame);
    };
    ws.onerror = () => {};
    ws.onclose = (e) => {
      clearTimeout(slow);
      this.lost(ws, (e?.code as number) ?? 0, (e?.reason as string) ?? "");
    };
  }

  private receive(frame: Frame): void {
    this.heardAt = Date.now();
    this.o.onTraffic?.("in", frame);
    if (frame.type === "ready") {
      this.ready = frame.data as Ready;
      this.readyAt = this.heardAt;
      this.refusals = 0;
      this.refused = undefined;
      this.status.set({ state: "online" });
      this.listenForSilence();
      this.planRenewal(this.ready.expiresAt);
      this.o.onReady(this.ready);
      return;
    }
    const waiter = frame.id !== undefined && (frame.type === "ack" || frame.type === "error" || frame.type === "pong") ? this.waiters.get(frame.id) : undefined;
    if (waiter) {
      clearTimeout(waiter.timer);
      this.waiters.delete(frame.id!);
      if (frame.type === "error") waiter.reject(new ParleyError(frame.data as Problem));
      else waiter.resolve(frame.data);
      return;
    }
    this.o.onFrame(frame);
  }

  /** A socket that brings nothing for two heartbeats is dead, whatever TCP thinks. */
  private listenForSilence(): void {
    clearTimeout(this.watch);
    const bound = 2 * this.ready!.heartbeatSeconds * 1000;
    const ws = this.ws!;
    const check = (): void => {
      const silent = Date.now() - this.heardAt;
      if (silent >= bound) this.lost(ws, 0, "silent");
      else this.watch = setTimeout(check, bound - silent);
    };
    this.watch = setTimeout(check, bound);
  }

  private probe(): void {
    const { ws, ready } = this;
    if (!ws || !ready) return;
    if (Date.now() - this.heardAt >= 2 * ready.heartbeatSeconds * 1000) return this.lost(ws, 0, "silent");
    const asked = Date.now();
    this.write({ type: "ping", id: "p" + this.nextId++ });
    setTimeout(() => {
      if (this.ws === ws && this.heardAt < asked) this.lost(ws, 0, "silent");
    }, probeTimeout);
  }

  /** A socket of an external token ends with it, unless a new one is shown in time. */
  private planRenewal(expiresAt: string | undefined): void {
    clearTimeout(this.renewal);
    if (!expiresAt) return;
    const left = Date.parse(expiresAt) - Date.now();
    const { ws } = this;
    this.renewal = setTimeout(async () => {
      let next: string | undefined;
      try {
        this.token = await this.o.tokens.get(this.token);
        next = (await this.request<{ expiresAt: string }>("auth", { token: this.token })).expiresAt;
      } catch {
        next = undefined; // try again until the socket's time is over
      }
      if (this.ws !== ws) return;
      if (next) this.planRenewal(next);
      else if (Date.parse(expiresAt) > Date.now()) this.renewal = setTimeout(() => this.ws === ws && this.planRenewal(expiresAt), 5_000);
    }, Math.min(2 ** 31 - 1, Math.max(0, left - Math.min(authAhead, left / 2))));
  }

  private down(): void {
    const { ws, ready } = this;
    this.ws = this.ready = undefined;
    clearTimeout(this.watch);
    clearTimeout(this.renewal);
    for (const [id, w] of [...this.waiters]) {
      clearTimeout(w.timer);
      this.waiters.delete(id);
      w.reject(failure("offline", "the socket was closed"));
    }
    if (ws) {
      ws.onmessage = ws.onclose = null;
      ws.onerror = () => {};
      if (ws.readyState < 2) ws.close(1000);
    }
    if (ready) this.o.onDown();
  }

  private lost(ws: WebSocketLike, code: number, reason: string): void {
    if (this.ws !== ws) return;
    const opened = this.ready !== undefined;
    if (opened && Date.now() - this.readyAt >= stableAfter) this.attempt = 0;
    this.down();
    switch (code) {
      case 4401:
        return this.refuse();
      case 4403:
        return this.stop("banned", failure("banned", reason, 403).problem);
      case 4409:
        return this.stop("replaced");
      case 4429:
        this.attempt = Math.max(this.attempt, 4);
        return this.later(failure("too_many_frames", reason || "too many frames", 429).problem, 2_000);
      case 1012:
        return this.later(undefined, 0, 3_000);
      default:
        if (opened || reason === "silent") this.later();
        else void this.diagnose();
    }
  }

  /** The session, or the token, is over: one new token, then it is final. */
  private refuse(problem?: Problem): void {
    if (this.refusals++ > 0) return this.stop("signed_out", problem);
    this.refused = this.token;
    void this.open();
  }

  /** The handshake failed, and browsers do not say why: REST does. */
  private async diagnose(): Promise<void> {
    const run = this.run;
    let problem: Problem | undefined;
    try {
      await call(this.o.fetch, this.o.base + "/users/me", "GET", undefined, this.token);
    } catch (err) {
      problem = (err as ParleyError).problem;
    }
    if (run !== this.run) return;
    if (problem?.status === 401) return this.refuse(problem);
    if (problem?.code === "banned" || problem?.code === "deactivated") return this.stop("banned", problem);
    this.later(problem, (problem?.retryAfterSeconds ?? 0) * 1000);
  }

  /** Tries again after `least` and a random part of the bound. */
  private later(problem?: Problem, least = 0, bound = backOff(this.attempt)): void {
    this.attempt++;
    const wait = least + Math.random() * bound;
    this.status.set({ state: "waiting", retryAt: Date.now() + wait, ...(problem && { problem }) });
    clearTimeout(this.retry);
    this.retry = setTimeout(() => void this.open(), wait);
  }

  private stop(reason: (Status & { state: "stopped" })["reason"], problem?: Problem): void {
    this.run++;
    clearTimeout(this.retry);
    this.listen(false);
    this.down();
    this.status.set({ state: "stopped", reason, ...(problem && { problem }) });
  }

  private readonly visible = (): void => {
    if (document.visibilityState === "visible") this.wake();
  };

  private listen(on: boolean): void {
    const change = on ? "addEventListener" : "removeEventListener";
    globalThis[change]?.("online", this.wake);
    globalThis.document?.[change]("visibilitychange", this.visible);
  }
}
