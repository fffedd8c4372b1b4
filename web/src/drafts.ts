const prefix = "parley.draft.";

/** Texts that are being written, by user and conversation. They outlive a reload of this tab, and end with the session. */
export const drafts = {
  get: (key: string): string => sessionStorage.getItem(prefix + key) ?? "",
  set(key: string, text: string): void {
    if (text) sessionStorage.setItem(prefix + key, text);
    else sessionStorage.removeItem(prefix + key);
  },
  clear(): void {
    for (const k of Object.keys(sessionStorage)) if (k.startsWith(prefix)) sessionStorage.removeItem(k);
  },
};
