-- +goose NO TRANSACTION
-- The indexes are built beside running pods, so each statement is its own transaction and can be repeated.
-- +goose Up

-- What PATCH changes. posting is 'admins' if only owners and admins may send, null if every member may. edit_revision is the
-- revision of the last PATCH, null for none: what a client's ifRevision is held against. updated_at moves with the
-- conversation's properties and members and never with a message, so that sends stay heap-only. A deleted group stays as a
-- tombstone without members. created_by and client_id make a repeated creation the same group.
ALTER TABLE conversations
    ADD COLUMN IF NOT EXISTS description   text,
    ADD COLUMN IF NOT EXISTS avatar_url    text,
    ADD COLUMN IF NOT EXISTS metadata      jsonb,
    ADD COLUMN IF NOT EXISTS posting       text,
    ADD COLUMN IF NOT EXISTS external_id   text,
    ADD COLUMN IF NOT EXISTS created_by    uuid,
    ADD COLUMN IF NOT EXISTS client_id     text,
    ADD COLUMN IF NOT EXISTS edit_revision bigint,
    ADD COLUMN IF NOT EXISTS updated_at    timestamptz,
    ADD COLUMN IF NOT EXISTS deleted_at    timestamptz;

-- A member's own state of a conversation, nobody else's business. state_xid is the transaction that changed it last: sync reads
-- what changed since by it, and the snapshot's xmin is where to ask again (internal/conversation, state.go). It has no index,
-- so that moving a marker stays heap-only. marker_version rises when a marker is moved back: a read that was buffered under an
-- older version does not count any more. read_high_seq is the furthest that the member ever read, where that is more than
-- last_read_seq. hidden_seq hides the conversation while its last_seq is no greater.
ALTER TABLE conversation_members
    ADD COLUMN IF NOT EXISTS state_xid      xid8,
    ADD COLUMN IF NOT EXISTS marker_version integer NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS read_high_seq  bigint,
    ADD COLUMN IF NOT EXISTS last_read_at   timestamptz,
    ADD COLUMN IF NOT EXISTS marked_unread  boolean NOT NULL DEFAULT false,
    ADD COLUMN IF NOT EXISTS notifications  text,
    ADD COLUMN IF NOT EXISTS muted_until    timestamptz,
    ADD COLUMN IF NOT EXISTS archived_at    timestamptz,
    ADD COLUMN IF NOT EXISTS pinned_at      timestamptz,
    ADD COLUMN IF NOT EXISTS hidden_seq     bigint;

SET lock_timeout = 0; -- a concurrent build waits for transactions, and nothing waits for it
DROP INDEX CONCURRENTLY IF EXISTS conversations_external_id_key;
CREATE UNIQUE INDEX CONCURRENTLY conversations_external_id_key ON conversations (external_id) WHERE external_id IS NOT NULL;
DROP INDEX CONCURRENTLY IF EXISTS conversations_client_id_key;
CREATE UNIQUE INDEX CONCURRENTLY conversations_client_id_key ON conversations (created_by, client_id) WHERE client_id IS NOT NULL;
-- The list that a server key reads, oldest change first.
DROP INDEX CONCURRENTLY IF EXISTS conversations_updated_idx;
CREATE INDEX CONCURRENTLY conversations_updated_idx ON conversations ((coalesce(updated_at, created_at)), id);
RESET lock_timeout;

-- +goose Down
DROP INDEX IF EXISTS conversations_updated_idx, conversations_client_id_key, conversations_external_id_key;
ALTER TABLE conversation_members
    DROP COLUMN IF EXISTS state_xid,
    DROP COLUMN IF EXISTS marker_version,
    DROP COLUMN IF EXISTS read_high_seq,
    DROP COLUMN IF EXISTS last_read_at,
    DROP COLUMN IF EXISTS marked_unread,
    DROP COLUMN IF EXISTS notifications,
    DROP COLUMN IF EXISTS muted_until,
    DROP COLUMN IF EXISTS archived_at,
    DROP COLUMN IF EXISTS pinned_at,
    DROP COLUMN IF EXISTS hidden_seq;
ALTER TABLE conversations
    DROP COLUMN IF EXISTS description,
    DROP COLUMN IF EXISTS avatar_url,
    DROP COLUMN IF EXISTS metadata,
    DROP COLUMN IF EXISTS posting,
    DROP COLUMN IF EXISTS external_id,
    DROP COLUMN IF EXISTS created_by,
    DROP COLUMN IF EXISTS client_id,
    DROP COLUMN IF EXISTS edit_revision,
    DROP COLUMN IF EXISTS updated_at,
    DROP COLUMN IF EXISTS deleted_at;
