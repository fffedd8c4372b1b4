/** The endpoint of `make run` that brings faults about. Parley itself has none such. */
export interface Control {
  readonly people: readonly Person[];
  readonly password: string;
  readonly canStopRedis: boolean;
  readonly redisStopped: boolean;
}

export interface Person {
  readonly username: string;
  /** The process of their pod. */
  readonly pod: string;
  /** Their line to it, which can be cut. */
  readonly url: string;
  readonly cut: boolean;
}

const pause = 1_500;

/** Reads the state, or brings a fault about and returns the state then. */
export async function ask(method: "GET" | "POST", what = ""): Promise<Control> {
  const res = await fetch("/control" + (what && "/" + what), { method });
  if (!res.ok) throw new Error((await res.text()).trim() || res.statusText);
  return (await res.json()) as Control;
}

/** Keeps the buttons in step with what other tabs do, and with faults that end. */
export function poll(draw: (now: Control) => void): void {
  setInterval(() => {
    if (document.visibilityState === "visible") void ask("GET").then(draw, () => {});
  }, pause);
}
