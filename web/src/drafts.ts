const prefix = "parley.draft.";

/** Uses the tab's storage. Without one, or if it is full, nothing is kept. */
function kept<T>(use: (s: Storage) => T): T | undefined {
  try {
    return use(sessionStorage);
  } catch {
    return undefined;
  }
}

/** Texts that are being written, by user and conversation. They outlive a reload of this tab, and end with the session. */
export const drafts = {
  get: (key: string): string => kept((s) => s.getItem(prefix + key)) ?? "",
  set: (key: string, text: string): void => kept((s) => (text ? s.setItem(prefix + key, text) : s.removeItem(prefix + key))),
  clear: (): void => kept((s) => {
    for (const k of Object.keys(s)) if (k.startsWith(prefix)) s.removeItem(k);
  }),
};
