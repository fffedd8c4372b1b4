-- +goose NO TRANSACTION
-- Each statement commits on its own, so that no lock is held for long; each may run again after an interruption.

-- +goose Up
-- Since a change of the password the session's older refresh tokens are good for one more refresh in all; null if there was none.
ALTER TABLE sessions ADD COLUMN IF NOT EXISTS rotate_from timestamptz;

-- From where a user logged in lately, hashed (auth/address.go).
CREATE TABLE IF NOT EXISTS login_addresses (
    user_id      uuid        NOT NULL REFERENCES users (id),
    address_hash text        NOT NULL,
    last_used_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (user_id, address_hash)
);

-- An interrupted build leaves an index that is not valid.
DROP INDEX CONCURRENTLY IF EXISTS conversation_members_roles_idx;

-- Owners and admins are few. Who inherits a group, and whether it has an owner, is found without reading all members.
CREATE INDEX CONCURRENTLY conversation_members_roles_idx ON conversation_members (conversation_id) WHERE role <> 'member';

-- Deleted accounts had names that anybody could take before.
UPDATE users SET username = 'deleted-' || right(replace(id::text, '-', ''), 24) WHERE deleted_at IS NOT NULL AND username LIKE 'deleted\_%';

-- What ended sessions still say of their clients, a piece at a time.
-- +goose StatementBegin
DO $do$
DECLARE
    after uuid := '00000000-0000-0000-0000-000000000000';
    upto  uuid;
BEGIN
    LOOP
        SELECT id INTO upto FROM (SELECT id FROM sessions WHERE id > after ORDER BY id LIMIT 2000) piece ORDER BY id DESC LIMIT 1;
        EXIT WHEN upto IS NULL;
        UPDATE sessions SET user_agent = '' WHERE id > after AND id <= upto AND ended_at IS NOT NULL AND user_agent <> '';
        COMMIT;
        after := upto;
    END LOOP;
END
$do$;
-- +goose StatementEnd

-- +goose Down
DROP INDEX IF EXISTS conversation_members_roles_idx;
DROP TABLE IF EXISTS login_addresses;
ALTER TABLE sessions DROP COLUMN IF EXISTS rotate_from;
