-- +goose Up
-- All of it is instant whatever the tables' size: columns without a default, and a constraint less.

-- changed is the revision of the last change after the send, null if there was none. Versions before this migration edit and
-- delete without setting it, while both run and in what they wrote before: a message is unchanged only if changed, edited_at
-- and deleted_at are all null (internal/journal, changedSQL). A trigger that set it would cost every change something for good.
-- reactions and attachments are summaries as clients see them, written in the transaction that changes what they sum up:
-- a page of history reads one table.
ALTER TABLE messages
    ADD COLUMN changed      bigint,
    ADD COLUMN kind         text,
    ADD COLUMN metadata     jsonb,
    ADD COLUMN mention_ids  uuid[],
    ADD COLUMN mention_all  boolean,
    ADD COLUMN attachments  jsonb,
    ADD COLUMN reactions    jsonb,
    ADD COLUMN pinned_at    timestamptz,
    ADD COLUMN pinned_by_id uuid,
    ADD COLUMN key_id       uuid;

-- kind is what versions before this migration know; detail is the exact kind if it is a later one, else null. So an older pod
-- replays a change of a later kind as the nearest that it knows. actor_id is the user who made the change, key_id the server
-- key. Readers pass a kind that they don't know on as conversation:changed.
ALTER TABLE conversation_changes
    DROP CONSTRAINT conversation_changes_kind_check,
    ADD COLUMN detail   text,
    ADD COLUMN actor_id uuid,
    ADD COLUMN key_id   uuid;

-- +goose Down
-- The constraint stays away: rows of kinds that it forbade may have been written.
ALTER TABLE conversation_changes
    DROP COLUMN detail,
    DROP COLUMN actor_id,
    DROP COLUMN key_id;
ALTER TABLE messages
    DROP COLUMN changed,
    DROP COLUMN kind,
    DROP COLUMN metadata,
    DROP COLUMN mention_ids,
    DROP COLUMN mention_all,
    DROP COLUMN attachments,
    DROP COLUMN reactions,
    DROP COLUMN pinned_at,
    DROP COLUMN pinned_by_id,
    DROP COLUMN key_id;
