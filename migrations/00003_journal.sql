-- +goose NO TRANSACTION
-- Each statement commits on its own: a lock on one table is never held while another is waited for, which would deadlock with sends. Each
-- may run again after an interruption.

-- +goose Up
-- All of it is instant whatever the tables' size: columns without a default, and a constraint less.

-- changed is the revision of the last change after the send, null if there was none. Versions before this migration edit and
-- delete without setting it, while both run and in what they wrote before: a message is unchanged only if changed, edited_at
-- and deleted_at are all null (internal/journal, changedSQL). A trigger that set it would cost every change something for good.
-- reactions and attachments are summaries as clients see them, written in the transaction that changes what they sum up:
-- a page of history reads one table.
ALTER TABLE messages
    ADD COLUMN IF NOT EXISTS changed      bigint,
    ADD COLUMN IF NOT EXISTS kind         text,
    ADD COLUMN IF NOT EXISTS metadata     jsonb,
    ADD COLUMN IF NOT EXISTS mention_ids  uuid[],
    ADD COLUMN IF NOT EXISTS mention_all  boolean,
    ADD COLUMN IF NOT EXISTS attachments  jsonb,
    ADD COLUMN IF NOT EXISTS reactions    jsonb,
    ADD COLUMN IF NOT EXISTS pinned_at    timestamptz,
    ADD COLUMN IF NOT EXISTS pinned_by_id uuid,
    ADD COLUMN IF NOT EXISTS key_id       uuid;

-- kind is what versions before this migration know; detail is the exact kind if it is a later one, else null. So an older pod
-- replays a change of a later kind as the nearest that it knows. actor_id is the user who made the change, key_id the server
-- key. Readers pass a kind that they don't know on as conversation:changed.
ALTER TABLE conversation_changes
    DROP CONSTRAINT IF EXISTS conversation_changes_kind_check,
    ADD COLUMN IF NOT EXISTS detail   text,
    ADD COLUMN IF NOT EXISTS actor_id uuid,
    ADD COLUMN IF NOT EXISTS key_id   uuid;

-- +goose Down
-- The constraint stays away: rows of kinds that it forbade may have been written.
ALTER TABLE conversation_changes
    DROP COLUMN IF EXISTS detail,
    DROP COLUMN IF EXISTS actor_id,
    DROP COLUMN IF EXISTS key_id;
ALTER TABLE messages
    DROP COLUMN IF EXISTS changed,
    DROP COLUMN IF EXISTS kind,
    DROP COLUMN IF EXISTS metadata,
    DROP COLUMN IF EXISTS mention_ids,
    DROP COLUMN IF EXISTS mention_all,
    DROP COLUMN IF EXISTS attachments,
    DROP COLUMN IF EXISTS reactions,
    DROP COLUMN IF EXISTS pinned_at,
    DROP COLUMN IF EXISTS pinned_by_id,
    DROP COLUMN IF EXISTS key_id;
