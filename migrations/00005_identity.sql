-- +goose NO TRANSACTION
-- +goose Up
-- Who a user is to the product that Parley serves, and how the user stands. Every column may be left out by older code. The indexes are
-- built without a lock that keeps writers out, which takes them out of a transaction: each statement may be repeated.
ALTER TABLE users
    ADD COLUMN IF NOT EXISTS external_id         text,   -- the product's own id, byte for byte; NULL for those who registered here
    ADD COLUMN IF NOT EXISTS former_external_id  bytea,  -- SHA-256 of the external id of a user who was deleted
    ADD COLUMN IF NOT EXISTS kind                text NOT NULL DEFAULT 'person',
    ADD COLUMN IF NOT EXISTS metadata            json,   -- as package metadata writes it; NULL for none
    ADD COLUMN IF NOT EXISTS updated_at          timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN IF NOT EXISTS profile_claims      bytea,  -- a hash of the claims that the profile was last taken from
    ADD COLUMN IF NOT EXISTS banned_at           timestamptz,
    ADD COLUMN IF NOT EXISTS banned_until        timestamptz, -- NULL while banned: until the ban is lifted
    ADD COLUMN IF NOT EXISTS ban_reason          text,
    ADD COLUMN IF NOT EXISTS deactivated_at      timestamptz,
    ADD COLUMN IF NOT EXISTS standing_changed_at timestamptz; -- when the user was last banned, unbanned, deactivated, reactivated or deleted
-- now() above is one value for all rows, which costs no rewrite; from here on each row has its own.
ALTER TABLE users ALTER COLUMN updated_at SET DEFAULT clock_timestamp();
ALTER TABLE users DROP CONSTRAINT IF EXISTS users_kind_check;
ALTER TABLE users ADD CONSTRAINT users_kind_check CHECK (kind IN ('person', 'bot')) NOT VALID;
ALTER TABLE users VALIDATE CONSTRAINT users_kind_check;

SET lock_timeout = 0; -- a concurrent build waits for transactions, and nothing waits for it
DROP INDEX CONCURRENTLY IF EXISTS users_external_id_key;
CREATE UNIQUE INDEX CONCURRENTLY users_external_id_key ON users (external_id) WHERE external_id IS NOT NULL;
DROP INDEX CONCURRENTLY IF EXISTS users_former_external_id_idx;
CREATE INDEX CONCURRENTLY users_former_external_id_idx ON users (former_external_id) WHERE former_external_id IS NOT NULL;
DROP INDEX CONCURRENTLY IF EXISTS users_updated_idx;
CREATE INDEX CONCURRENTLY users_updated_idx ON users (updated_at, id);
DROP INDEX CONCURRENTLY IF EXISTS users_barred_idx;
CREATE INDEX CONCURRENTLY users_barred_idx ON users (updated_at, id) WHERE banned_at IS NOT NULL OR deactivated_at IS NOT NULL;
-- What every pod asks every two seconds: whose standing changed lately.
DROP INDEX CONCURRENTLY IF EXISTS users_standing_idx;
CREATE INDEX CONCURRENTLY users_standing_idx ON users (standing_changed_at) WHERE standing_changed_at IS NOT NULL;
RESET lock_timeout;

-- A trigger, since versions that don't know the column change profiles too. last_seen_at is written all the time and is none of these.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION users_touch() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := clock_timestamp();
    IF NEW.deleted_at IS NOT NULL AND OLD.deleted_at IS NULL THEN
        -- The name is free again, but not for a token that was issued before.
        NEW.former_external_id := sha256(convert_to(OLD.external_id, 'UTF8'));
        NEW.external_id := NULL;
        NEW.metadata := NULL;
        NEW.profile_claims := NULL;
        NEW.ban_reason := NULL;
    END IF;
    IF (NEW.banned_at, NEW.banned_until, NEW.deactivated_at, NEW.deleted_at)
        IS DISTINCT FROM (OLD.banned_at, OLD.banned_until, OLD.deactivated_at, OLD.deleted_at) THEN
        NEW.standing_changed_at := clock_timestamp();
    END IF;
    RETURN NEW;
END
$$;
-- +goose StatementEnd
CREATE OR REPLACE TRIGGER users_touch BEFORE UPDATE OF username, display_name, avatar_url, external_id, kind, metadata, banned_at, banned_until, ban_reason,
    deactivated_at, deleted_at ON users FOR EACH ROW EXECUTE FUNCTION users_touch();

-- minted_by is the key that opened the session, ends_at a time beyond which no refresh prolongs it.
ALTER TABLE sessions
    ADD COLUMN IF NOT EXISTS minted_by uuid,
    ADD COLUMN IF NOT EXISTS ends_at   timestamptz;

-- Versions that don't know ends_at prolong sessions too.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION sessions_bound() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    NEW.expires_at := least(NEW.expires_at, NEW.ends_at);
    RETURN NEW;
END
$$;
-- +goose StatementEnd
CREATE OR REPLACE TRIGGER sessions_bound BEFORE INSERT OR UPDATE OF expires_at ON sessions
    FOR EACH ROW WHEN (NEW.ends_at IS NOT NULL) EXECUTE FUNCTION sessions_bound();

CREATE TABLE IF NOT EXISTS server_keys (
    id           uuid        PRIMARY KEY,
    name         text        NOT NULL,
    hash         bytea       NOT NULL, -- SHA-256 of the whole key
    scopes       text[]      NOT NULL,
    created_by   uuid,                 -- the key that made it; NULL for the command line and the setting
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at   timestamptz,
    ended_at     timestamptz,
    last_used_at timestamptz           -- to the hour
);
CREATE UNIQUE INDEX IF NOT EXISTS server_keys_name_key ON server_keys (name) WHERE ended_at IS NULL;
-- What every pod asks every two seconds: which keys ended lately.
CREATE INDEX IF NOT EXISTS server_keys_ended_idx ON server_keys (ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE IF NOT EXISTS audit_log (
    id            uuid        PRIMARY KEY,
    at            timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor_user_id uuid,
    actor_key_id  uuid,
    action        text        NOT NULL,
    target_type   text        NOT NULL,
    target_id     text        NOT NULL,
    request_id    text        NOT NULL DEFAULT '',
    ip            text        NOT NULL DEFAULT '',
    detail        jsonb       NOT NULL DEFAULT '{}'
);
CREATE INDEX IF NOT EXISTS audit_log_at_idx ON audit_log (at DESC, id DESC);
CREATE INDEX IF NOT EXISTS audit_log_target_idx ON audit_log (target_id, at DESC, id DESC);
CREATE INDEX IF NOT EXISTS audit_log_key_idx ON audit_log (actor_key_id, at DESC, id DESC) WHERE actor_key_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS audit_log_user_idx ON audit_log (actor_user_id, at DESC, id DESC) WHERE actor_user_id IS NOT NULL;

-- +goose Down
DROP TABLE IF EXISTS audit_log, server_keys;
DROP TRIGGER IF EXISTS sessions_bound ON sessions;
DROP FUNCTION IF EXISTS sessions_bound();
ALTER TABLE sessions DROP COLUMN IF EXISTS minted_by, DROP COLUMN IF EXISTS ends_at;
DROP TRIGGER IF EXISTS users_touch ON users;
DROP FUNCTION IF EXISTS users_touch();
ALTER TABLE users DROP COLUMN IF EXISTS external_id, DROP COLUMN IF EXISTS former_external_id, DROP COLUMN IF EXISTS kind, DROP COLUMN IF EXISTS metadata, DROP COLUMN IF EXISTS updated_at,
    DROP COLUMN IF EXISTS profile_claims, DROP COLUMN IF EXISTS banned_at, DROP COLUMN IF EXISTS banned_until, DROP COLUMN IF EXISTS ban_reason,
    DROP COLUMN IF EXISTS deactivated_at, DROP COLUMN IF EXISTS standing_changed_at;
