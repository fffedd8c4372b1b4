-- +goose NO TRANSACTION
-- +goose Up
-- The author of an event: the user, the server key, or the key and the user for whom it acts. Both are null for the operator, and for what
-- versions before this migration wrote.
ALTER TABLE outbox ADD COLUMN IF NOT EXISTS actor_id uuid, ADD COLUMN IF NOT EXISTS key_id uuid;
ALTER TABLE outbox_sent ADD COLUMN IF NOT EXISTS actor_id uuid, ADD COLUMN IF NOT EXISTS key_id uuid;

-- A change names its author by parley.actor, as "user/key", for its own transaction (internal/audit, ActorSQL).
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION outbox_add(event_type text, about text, users uuid[]) RETURNS void
    LANGUAGE sql AS $$
    INSERT INTO outbox (webhook_id, event_id, subject, type, user_ids, actor_id, key_id)
    SELECT w.id, gen_random_uuid(), about, event_type, users,
        nullif(split_part(current_setting('parley.actor', true), '/', 1), '')::uuid,
        nullif(split_part(current_setting('parley.actor', true), '/', 2), '')::uuid
    FROM webhooks w
    WHERE w.disabled_reason IS DISTINCT FROM 'deleted' AND (w.types && ARRAY['*', event_type])
$$;
-- +goose StatementEnd

-- +goose Down
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION outbox_add(event_type text, about text, users uuid[]) RETURNS void
    LANGUAGE sql AS $$
    INSERT INTO outbox (webhook_id, event_id, subject, type, user_ids)
    SELECT w.id, gen_random_uuid(), about, event_type, users FROM webhooks w
    WHERE w.disabled_reason IS DISTINCT FROM 'deleted' AND (w.types && ARRAY['*', event_type])
$$;
-- +goose StatementEnd
ALTER TABLE outbox_sent DROP COLUMN IF EXISTS actor_id, DROP COLUMN IF EXISTS key_id;
ALTER TABLE outbox DROP COLUMN IF EXISTS actor_id, DROP COLUMN IF EXISTS key_id;
