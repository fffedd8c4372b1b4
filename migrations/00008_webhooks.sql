-- +goose NO TRANSACTION
-- Each statement commits on its own: a lock on one table is never held while another is waited for, which would deadlock with sends. Each
-- may run again after an interruption.

-- +goose Up
-- Endpoints of a product's own back end. secret and former_secret are encrypted (internal/webhook, seal.go). since is from when on
-- changes are delivered. watermark and watermark_id are how far the dispatchers have looked for changed conversations. An endpoint is
-- failing from its first failure until its next success.
CREATE TABLE IF NOT EXISTS webhooks (
    id              uuid        PRIMARY KEY,
    name            text        NOT NULL CONSTRAINT webhooks_name_key UNIQUE,
    url             text        NOT NULL,
    types           text[]      NOT NULL,
    disabled_reason text,
    secret          bytea       NOT NULL,
    former_secret   bytea,
    former_until    timestamptz,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    since           timestamptz NOT NULL DEFAULT clock_timestamp(),
    watermark       timestamptz NOT NULL,
    watermark_id    uuid        NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    last_success_at timestamptz,
    failing_since   timestamptz,
    next_probe_at   timestamptz
);

-- How far an endpoint has got in a conversation: everything up to revision was answered or declared dead. behind is set while more is
-- known to follow. A dispatcher works on a place only while it holds its lease, and each step names the lease.
CREATE TABLE IF NOT EXISTS webhook_places (
    webhook_id      uuid        NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
    conversation_id uuid        NOT NULL,
    revision        bigint      NOT NULL,
    behind          boolean     NOT NULL,
    attempts        integer     NOT NULL DEFAULT 0,
    first_failed_at timestamptz,
    next_at         timestamptz,
    lease           uuid,
    leased_until    timestamptz,
    PRIMARY KEY (webhook_id, conversation_id)
);
CREATE INDEX IF NOT EXISTS webhook_places_due_idx ON webhook_places (webhook_id, next_at NULLS FIRST) WHERE behind;

-- What belongs to no conversation, in the transaction of the change itself; a row for each endpoint.
CREATE TABLE IF NOT EXISTS outbox (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    webhook_id uuid        NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
    event_id   uuid        NOT NULL,
    subject    text        NOT NULL,
    type       text        NOT NULL,
    user_ids   uuid[]      NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX IF NOT EXISTS outbox_subject_idx ON outbox (webhook_id, subject, id);

CREATE TABLE IF NOT EXISTS outbox_places (
    webhook_id      uuid        NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
    subject         text        NOT NULL,
    attempts        integer     NOT NULL DEFAULT 0,
    first_failed_at timestamptz,
    next_at         timestamptz,
    lease           uuid,
    leased_until    timestamptz,
    PRIMARY KEY (webhook_id, subject)
);

-- Failed attempts, kept for seven days, and events that were given up.
CREATE TABLE IF NOT EXISTS webhook_attempts (
    id         uuid        PRIMARY KEY,
    webhook_id uuid        NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
    event      text        NOT NULL,
    type       text        NOT NULL,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    status     integer,
    error      text        NOT NULL,
    body       text        NOT NULL
);
CREATE INDEX IF NOT EXISTS webhook_attempts_list_idx ON webhook_attempts (webhook_id, at DESC, id DESC);

CREATE TABLE IF NOT EXISTS webhook_dead (
    id         uuid        PRIMARY KEY,
    webhook_id uuid        NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
    event      text        NOT NULL,
    type       text        NOT NULL,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    error      text        NOT NULL,
    body       bytea       NOT NULL, -- what was to be sent
    CONSTRAINT webhook_dead_event_key UNIQUE (webhook_id, event)
);
CREATE INDEX IF NOT EXISTS webhook_dead_list_idx ON webhook_dead (webhook_id, at DESC, id DESC);

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION outbox_add(event_type text, about text, users uuid[]) RETURNS void
    LANGUAGE sql AS $$
    INSERT INTO outbox (webhook_id, event_id, subject, type, user_ids)
    SELECT w.id, gen_random_uuid(), about, event_type, users FROM webhooks w
    WHERE w.disabled_reason IS DISTINCT FROM 'deleted' AND (w.types && ARRAY['*', event_type])
$$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION outbox_users() RETURNS trigger
    LANGUAGE plpgsql AS $$
DECLARE
    kind text;
BEGIN
    IF NOT EXISTS (SELECT FROM webhooks) THEN
        RETURN NULL;
    END IF;
    IF TG_OP = 'INSERT' THEN
        PERFORM outbox_add('user.created', NEW.id::text, ARRAY[NEW.id]);
        RETURN NULL;
    END IF;
    kind := CASE
        WHEN NEW.deleted_at IS NOT NULL AND OLD.deleted_at IS NULL THEN 'user.deleted'
        WHEN NEW.deactivated_at IS NOT NULL AND OLD.deactivated_at IS NULL THEN 'user.deactivated'
        WHEN NEW.deactivated_at IS NULL AND OLD.deactivated_at IS NOT NULL THEN 'user.reactivated'
        WHEN NEW.banned_at IS NOT NULL AND OLD.banned_at IS NULL THEN 'user.banned'
        WHEN NEW.banned_at IS NULL AND OLD.banned_at IS NOT NULL THEN 'user.unbanned'
        WHEN (NEW.username, NEW.display_name, NEW.avatar_url, NEW.metadata::text) IS DISTINCT FROM (OLD.username, OLD.display_name, OLD.avatar_url, OLD.metadata::text)
            THEN 'user.updated'
    END;
    IF kind IS NOT NULL THEN
        PERFORM outbox_add(kind, NEW.id::text, ARRAY[NEW.id]);
    END IF;
    RETURN NULL;
END
$$;
-- +goose StatementEnd
CREATE OR REPLACE TRIGGER outbox_users AFTER INSERT OR UPDATE OF username, display_name, avatar_url, metadata, banned_at, deactivated_at, deleted_at ON users
    FOR EACH ROW EXECUTE FUNCTION outbox_users();

-- A friendship is two rows: one of them speaks for both.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION outbox_friends() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM webhooks) THEN
        RETURN NULL;
    END IF;
    IF TG_OP = 'DELETE' THEN
        IF OLD.status = 'accepted' AND OLD.user_id < OLD.friend_id THEN
            PERFORM outbox_add('friend.removed', OLD.user_id::text || ':' || OLD.friend_id::text, ARRAY[OLD.user_id, OLD.friend_id]);
        END IF;
    ELSIF NEW.status = 'accepted' AND NEW.user_id < NEW.friend_id AND (TG_OP = 'INSERT' OR OLD.status <> 'accepted') THEN
        PERFORM outbox_add('friend.added', NEW.user_id::text || ':' || NEW.friend_id::text, ARRAY[NEW.user_id, NEW.friend_id]);
    END IF;
    RETURN NULL;
END
$$;
-- +goose StatementEnd
CREATE OR REPLACE TRIGGER outbox_friends AFTER INSERT OR UPDATE OF status OR DELETE ON friendships
    FOR EACH ROW EXECUTE FUNCTION outbox_friends();

-- +goose Down
DROP TRIGGER IF EXISTS outbox_friends ON friendships;
DROP TRIGGER IF EXISTS outbox_users ON users;
DROP FUNCTION IF EXISTS outbox_friends();
DROP FUNCTION IF EXISTS outbox_users();
DROP FUNCTION IF EXISTS outbox_add(text, text, uuid[]);
DROP TABLE IF EXISTS webhook_dead, webhook_attempts, outbox_places, outbox, webhook_places, webhooks;
