import type { Problem } from "./types.js";
import type { Tokens } from "./token.js";

/** A refused request or frame: `problem.code` is stable, `status` is HTTP's; 0 if there was no answer. */
export class ParleyError extends Error {
  constructor(readonly problem: Problem) {
    super(problem.detail || problem.title);
    this.name = "ParleyError";
  }
  get code(): string {
    return this.problem.code;
  }
  get status(): number {
    return this.problem.status;
  }
}

/** A problem of the client's own making: no answer (`offline`), none in time (`timeout`), … */
export function failure(code: string, detail: string, status = 0): ParleyError {
  return new ParleyError({ type: "about:blank", title: code, status, detail, code, requestId: "" });
}

export async function problemOf(res: Response): Promise<ParleyError> {
  let p: Partial<Problem> = {};
  try {
    p = (await res.json()) as Problem;
  } catch {
    // A proxy's page, or nothing.
  }
  const wait = p.retryAfterSeconds ?? Number(res.headers.get("Retry-After"));
  const { status } = res;
  return new ParleyError({ ...failure("http_" + status, "status " + status).problem, ...p, status, ...(wait > 0 && { retryAfterSeconds: wait }) });
}

export type Fetch = (url: string, init: RequestInit) => Promise<Response>;

const requestTimeout = 15_000;
const longestWait = 10_000;

export const sleep = (ms: number): Promise<void> => new Promise((r) => setTimeout(r, ms));

/** One request of JSON, with a deadline. It rejects with a ParleyError. */
export async function call<T>(fetcher: Fetch, url: string, method: string, body: unknown, token?: string): Promise<T> {
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(), requestTimeout);
  try {
    const res = await fetcher(url, {
      method, signal: abort.signal, credentials: "omit", cache: "no-store",
      headers: { ...(token && { Authorization: "Bearer " + token }), ...(body !== undefined && { "Content-Type": "application/json" }) },
      body: JSON.stringify(body),
    });
    if (!res.ok) throw await problemOf(res);
    return (res.status === 204 ? undefined : await res.json()) as T;
  } catch (err) {
    if (err instanceof ParleyError) throw err;
    throw abort.signal.aborted ? failure("timeout", "no answer in time") : failure("offline", String((err as Error)?.message ?? err));
  } finally {
    clearTimeout(timer);
  }
}

/** REST with the caller's token: a 401 refreshes it once, a 429 or 503 of a short wait is waited for once. */
export class Http {
  constructor(readonly base: string, private readonly fetcher: Fetch, private readonly tokens: Tokens) {}

  async request<T = unknown>(method: string, path: string, body?: unknown): Promise<T> {
    let token = await this.tokens.get();
    let refreshed = false;
    let waited = false;
    for (;;) {
      try {
        return await call<T>(this.fetcher, this.base + path, method, body, token);
      } catch (err) {
        const p = (err as ParleyError).problem;
        const wait = (p.retryAfterSeconds ?? 0) * 1000;
        if (p.status === 401 && !refreshed) {
          refreshed = true;
          token = await this.tokens.get(token);
        } else if ((p.status === 429 || p.status === 503) && !waited && wait > 0 && wait <= longestWait) {
          waited = true;
          await sleep(wait + Math.random() * 250);
        } else {
          throw err;
        }
      }
    }
  }
}
