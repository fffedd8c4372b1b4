-- +goose NO TRANSACTION
-- The index is built beside running pods, so each statement is its own transaction and can be repeated.
-- +goose Up

-- edit_revision is the revision of the last change of content, metadata or mentions, null for none: what a client's ifRevision
-- is held against. A reaction or a pin moves revision and leaves it.
ALTER TABLE messages ADD COLUMN IF NOT EXISTS edit_revision bigint;

-- Who gave which reaction. messages.reactions sums it up, in the same transaction.
CREATE TABLE IF NOT EXISTS message_reactions (
    message_id uuid        NOT NULL,
    user_id    uuid        NOT NULL,
    reaction   text        NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (message_id, user_id, reaction)
);
CREATE INDEX IF NOT EXISTS message_reactions_list_idx ON message_reactions (message_id, created_at DESC, user_id DESC, reaction DESC);

-- What unread mentions are counted from: a row for each user whom a message mentions, or one without a user for all members.
-- A deleted message has none.
CREATE TABLE IF NOT EXISTS message_mentions (
    conversation_id uuid   NOT NULL,
    seq             bigint NOT NULL,
    user_id         uuid,
    sender_id       uuid   NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS message_mentions_user_idx ON message_mentions (user_id, conversation_id, seq) WHERE user_id IS NOT NULL;
CREATE UNIQUE INDEX IF NOT EXISTS message_mentions_all_idx ON message_mentions (conversation_id, seq) WHERE user_id IS NULL;

SET lock_timeout = 0; -- a concurrent build waits for transactions, and nothing waits for it
DROP INDEX CONCURRENTLY IF EXISTS messages_pins_idx;
CREATE INDEX CONCURRENTLY messages_pins_idx ON messages (conversation_id, pinned_at DESC, id DESC) WHERE pinned_at IS NOT NULL;
RESET lock_timeout;

-- +goose Down
DROP INDEX IF EXISTS messages_pins_idx;
DROP TABLE IF EXISTS message_mentions;
DROP TABLE IF EXISTS message_reactions;
ALTER TABLE messages DROP COLUMN IF EXISTS edit_revision;
