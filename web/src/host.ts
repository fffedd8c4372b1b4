import type { OwnUser, Parley } from "@parley-chat/client";

/** What a conversation and its dialogs need of the page that they are in. */
export interface Host {
  readonly chat: Parley;
  readonly session: { readonly user: OwnUser | null };
  /** Whether files can be attached. */
  readonly uploads: boolean;
  /** Whether somebody looks at the page. */
  readonly watched: boolean;
  /** Shows a conversation, or the list of them. */
  go(id: string | undefined): void;
}
