/** A value that can be read at any time and watched. The value is replaced, never changed, so `===` compares it. */
export interface Readable<T> {
  readonly value: T;
  /** Calls `listener` after changes, some of them at once. It returns the function that ends it. */
  subscribe(listener: () => void): () => void;
}

const pending = new Set<Cell<any>>();

function flush(): void {
  const cells = [...pending];
  pending.clear();
  for (const c of cells) c.notify();
}

export class Cell<T> implements Readable<T> {
  private readonly listeners = new Set<() => void>();
  constructor(private current: T) {}

  get value(): T {
    return this.current;
  }

  /** Sets the value. Listeners are called in a microtask, once for all changes of a turn. */
  set(value: T): void {
    if (Object.is(value, this.current)) return;
    this.current = value;
    if (this.listeners.size === 0) return;
    if (pending.size === 0) queueMicrotask(flush);
    pending.add(this);
  }

  subscribe(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => void this.listeners.delete(listener);
  }

  notify(): void {
    for (const l of [...this.listeners]) report(l);
  }
}

/** Runs an app's callback. What it throws is the app's: it is reported, and the client goes on. */
export function report(fn: () => void): void {
  try {
    fn();
  } catch (err) {
    if (typeof globalThis.reportError === "function") globalThis.reportError(err);
    else console.error(err);
  }
}

export class Emitter<Events extends object> {
  private readonly handlers = new Map<keyof Events, Set<(e: any) => void>>();

  on<K extends keyof Events>(type: K, handler: (event: Events[K]) => void): () => void {
    let set = this.handlers.get(type);
    if (!set) this.handlers.set(type, (set = new Set()));
    set.add(handler);
    return () => void set.delete(handler);
  }

  emit<K extends keyof Events>(type: K, event: Events[K]): void {
    for (const h of [...(this.handlers.get(type) ?? [])]) report(() => h(event));
  }
}
