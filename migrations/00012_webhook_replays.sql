-- +goose NO TRANSACTION
-- +goose Up
-- A period that is delivered to an endpoint once more, beside the live events. next_conversation and next_outbox are how far its
-- conversations and users' events have been looked through, null once that is done. A replay that is complete is removed.
CREATE TABLE IF NOT EXISTS webhook_replays (
    id                uuid        PRIMARY KEY,
    webhook_id        uuid        NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
    since             timestamptz NOT NULL,
    until             timestamptz NOT NULL,
    created_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    next_conversation uuid,
    next_outbox       bigint
);
CREATE INDEX IF NOT EXISTS webhook_replays_webhook_idx ON webhook_replays (webhook_id, created_at);

-- How far a replay has got in a conversation, as webhook_places. The row goes once revision is until_revision.
CREATE TABLE IF NOT EXISTS webhook_replay_places (
    replay_id       uuid        NOT NULL REFERENCES webhook_replays (id) ON DELETE CASCADE,
    conversation_id uuid        NOT NULL,
    webhook_id      uuid        NOT NULL,
    revision        bigint      NOT NULL,
    until_revision  bigint      NOT NULL,
    attempts        integer     NOT NULL DEFAULT 0,
    first_failed_at timestamptz,
    next_at         timestamptz,
    lease           uuid,
    leased_until    timestamptz,
    PRIMARY KEY (webhook_id, conversation_id, replay_id)
);
CREATE INDEX IF NOT EXISTS webhook_replay_places_replay_idx ON webhook_replay_places (replay_id);
CREATE INDEX IF NOT EXISTS webhook_replay_places_due_idx ON webhook_replay_places (webhook_id, next_at NULLS FIRST);

-- What the outbox had and was delivered or given up, for replays. Dispatchers before this migration delete instead.
CREATE TABLE IF NOT EXISTS outbox_sent (
    id         bigint      PRIMARY KEY,
    webhook_id uuid        NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
    event_id   uuid        NOT NULL,
    subject    text        NOT NULL,
    type       text        NOT NULL,
    user_ids   uuid[]      NOT NULL,
    created_at timestamptz NOT NULL
);
CREATE INDEX IF NOT EXISTS outbox_sent_webhook_idx ON outbox_sent (webhook_id, id);
CREATE INDEX IF NOT EXISTS outbox_sent_age_idx ON outbox_sent (created_at);

-- Set for what a replay delivers. Its subject is the replay's own, so that it holds up no live event.
ALTER TABLE outbox ADD COLUMN IF NOT EXISTS replay_id uuid;

-- When the oldest change that waits was made: the lag that is alerted on. Null until a change comes that this version marks.
ALTER TABLE webhook_places ADD COLUMN IF NOT EXISTS behind_since timestamptz;

-- Those that are being worked on, which are counted at each claim.
SET lock_timeout = 0; -- a concurrent build waits for transactions, and nothing waits for it
DROP INDEX CONCURRENTLY IF EXISTS webhook_places_leased_idx;
CREATE INDEX CONCURRENTLY webhook_places_leased_idx ON webhook_places (webhook_id) WHERE lease IS NOT NULL;

-- The oldest events of an endpoint, which are looked for at each claim.
DROP INDEX CONCURRENTLY IF EXISTS outbox_oldest_idx;
CREATE INDEX CONCURRENTLY outbox_oldest_idx ON outbox (webhook_id, id);
RESET lock_timeout;

-- +goose Down
DROP INDEX IF EXISTS outbox_oldest_idx;
ALTER TABLE webhook_places DROP COLUMN IF EXISTS behind_since;
DROP INDEX IF EXISTS webhook_places_leased_idx;
DELETE FROM outbox WHERE subject LIKE 'replay:%';
ALTER TABLE outbox DROP COLUMN IF EXISTS replay_id;
DROP TABLE IF EXISTS outbox_sent, webhook_replay_places, webhook_replays;
