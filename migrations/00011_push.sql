-- +goose NO TRANSACTION
-- Each statement commits on its own: a lock on one table is never held while another is waited for, which would deadlock with sends. Each
-- may run again after an interruption.

-- +goose Up
-- Devices that get pushes. address is a subscription's endpoint or a token; its hash belongs to one device alone. p256dh and auth are a
-- subscription's keys. session_id is the session that registered the device, null if it was registered by another kind of token: a device
-- ends with its session.
CREATE TABLE IF NOT EXISTS push_devices (
    id           uuid        NOT NULL DEFAULT gen_random_uuid() CONSTRAINT push_devices_id_key UNIQUE,
    user_id      uuid        NOT NULL REFERENCES users (id),
    device_id    text        NOT NULL,
    provider     text        NOT NULL,
    lane         text        NOT NULL, -- the host of a subscription, or fcm: what hangs together
    address      text        NOT NULL,
    address_hash bytea       NOT NULL CONSTRAINT push_devices_address_key UNIQUE,
    p256dh       text        NOT NULL DEFAULT '',
    auth         text        NOT NULL DEFAULT '',
    session_id   uuid,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (user_id, device_id)
);
CREATE INDEX IF NOT EXISTS push_devices_session_idx ON push_devices (session_id) WHERE session_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS push_devices_seen_idx ON push_devices (seen_at);

CREATE TABLE IF NOT EXISTS push_preferences (
    user_id uuid    PRIMARY KEY REFERENCES users (id),
    level   text    NOT NULL DEFAULT 'all',
    preview boolean NOT NULL DEFAULT true
);

-- How far the dispatchers have looked for conversations with new messages, one row, and how far each of them was decided on: up to seq.
-- behind is set while more is known to follow. A dispatcher works on a place only while it holds its lease.
CREATE TABLE IF NOT EXISTS push_watermark (
    one boolean     PRIMARY KEY DEFAULT true CHECK (one),
    at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    id  uuid        NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000'
);
INSERT INTO push_watermark DEFAULT VALUES ON CONFLICT DO NOTHING;

CREATE TABLE IF NOT EXISTS push_places (
    conversation_id uuid        PRIMARY KEY,
    seq             bigint      NOT NULL,
    behind          boolean     NOT NULL DEFAULT true,
    next_at         timestamptz,
    lease           uuid,
    leased_until    timestamptz
);
CREATE INDEX IF NOT EXISTS push_places_due_idx ON push_places (next_at NULLS FIRST) WHERE behind;

-- The last message that a user got a push for, by conversation: what came later is counted in the next one.
CREATE TABLE IF NOT EXISTS push_marks (
    user_id         uuid   NOT NULL,
    conversation_id uuid   NOT NULL,
    seq             bigint NOT NULL,
    PRIMARY KEY (user_id, conversation_id)
);

-- Pushes on their way: one for each device and conversation, the newest. They hold no content, which is read when they are sent.
CREATE TABLE IF NOT EXISTS push_sends (
    device          uuid        NOT NULL REFERENCES push_devices (id) ON DELETE CASCADE,
    conversation_id uuid        NOT NULL,
    lane            text        NOT NULL,
    message_id      uuid        NOT NULL,
    seq             bigint      NOT NULL,
    count           bigint      NOT NULL,
    attempts        integer     NOT NULL DEFAULT 0,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    next_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    lease           uuid,
    PRIMARY KEY (device, conversation_id)
);
CREATE INDEX IF NOT EXISTS push_sends_due_idx ON push_sends (lane, next_at);

-- Of what an event of the outbox is, null for one that is made of its users.
ALTER TABLE outbox ADD COLUMN IF NOT EXISTS data jsonb;

-- Devices end in the transaction that ends their session or user, whatever version of Parley runs it.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION push_session_ended() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM push_devices WHERE session_id = NEW.id;
    RETURN NULL;
END
$$;
-- +goose StatementEnd
CREATE OR REPLACE TRIGGER push_session_ended AFTER UPDATE OF ended_at ON sessions
    FOR EACH ROW WHEN (NEW.ended_at IS NOT NULL AND OLD.ended_at IS NULL) EXECUTE FUNCTION push_session_ended();

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION push_user_ended() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM push_devices WHERE user_id = NEW.id;
    IF NEW.deleted_at IS NOT NULL THEN
        DELETE FROM push_preferences WHERE user_id = NEW.id;
        DELETE FROM push_marks WHERE user_id = NEW.id;
    END IF;
    RETURN NULL;
END
$$;
-- +goose StatementEnd
CREATE OR REPLACE TRIGGER push_user_ended AFTER UPDATE OF banned_at, deleted_at ON users
    FOR EACH ROW WHEN (NEW.banned_at IS NOT NULL AND OLD.banned_at IS NULL OR NEW.deleted_at IS NOT NULL AND OLD.deleted_at IS NULL)
    EXECUTE FUNCTION push_user_ended();

-- +goose Down
DROP TRIGGER IF EXISTS push_user_ended ON users;
DROP TRIGGER IF EXISTS push_session_ended ON sessions;
DROP FUNCTION IF EXISTS push_user_ended();
DROP FUNCTION IF EXISTS push_session_ended();
ALTER TABLE outbox DROP COLUMN IF EXISTS data;
DROP TABLE IF EXISTS push_sends, push_marks, push_places, push_watermark, push_preferences, push_devices;
