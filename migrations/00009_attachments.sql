-- +goose NO TRANSACTION
-- Each statement commits on its own: a lock on one table is never held while another is waited for, which would deadlock with sends. Each
-- may run again after an interruption.

-- +goose Up
-- A file that a user uploads, or has sent with a message. Its bytes are the object attachments/<id> of the bucket.
--
--   pending   the upload was announced; its object may be there
--   ready     the object was checked; message_id is set once the file was sent
--   rejected  the object was not what the upload announced
--   removed   the message was deleted, or the file was not sent in time
--
-- Nobody gets a rejected or removed file. The sweep removes its object, and then the row, but not before upload_expires_at is
-- past: until then the upload's URL can make the object again.
--
-- message_id has no foreign key: a message may be deleted without waiting for the sweep.
CREATE TABLE IF NOT EXISTS attachments (
    id                uuid        PRIMARY KEY,
    owner_id          uuid        NOT NULL REFERENCES users (id),
    state             text        NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'ready', 'rejected', 'removed')),
    filename          text        NOT NULL,
    content_type      text        NOT NULL,
    size              bigint      NOT NULL CHECK (size > 0),
    width             integer,
    height            integer,
    conversation_id   uuid,
    message_id        uuid,
    created_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    upload_expires_at timestamptz NOT NULL,
    CHECK (message_id IS NULL OR state IN ('ready', 'removed'))
);
CREATE INDEX IF NOT EXISTS attachments_pending_idx ON attachments (owner_id) WHERE state = 'pending';
CREATE INDEX IF NOT EXISTS attachments_unsent_idx ON attachments (created_at) WHERE message_id IS NULL AND state IN ('pending', 'ready');
CREATE INDEX IF NOT EXISTS attachments_removed_idx ON attachments (id) WHERE state IN ('rejected', 'removed');
CREATE INDEX IF NOT EXISTS attachments_conversation_idx ON attachments (conversation_id) WHERE message_id IS NOT NULL AND state = 'ready';
CREATE INDEX IF NOT EXISTS attachments_message_idx ON attachments (message_id) WHERE message_id IS NOT NULL;

-- Deleted conversations whose files the sweep has to mark removed, however many they are.
CREATE TABLE IF NOT EXISTS attachment_conversations (
    conversation_id uuid PRIMARY KEY
);

-- A message's files go with it, whoever deletes it: pods of an older version know nothing of files.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION attachments_of_deleted_message() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE attachments SET state = 'removed' WHERE message_id = NEW.id AND state = 'ready';
    RETURN NULL;
END $$;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION attachments_of_dropped_messages() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE attachments a SET state = 'removed' FROM dropped d WHERE a.message_id = d.id AND a.state = 'ready';
    RETURN NULL;
END $$;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION attachments_of_deleted_conversation() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO attachment_conversations VALUES (NEW.id) ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE OR REPLACE TRIGGER attachments_of_deleted_message AFTER UPDATE OF deleted_at ON messages
    FOR EACH ROW WHEN (OLD.deleted_at IS NULL AND NEW.deleted_at IS NOT NULL)
    EXECUTE FUNCTION attachments_of_deleted_message();
CREATE OR REPLACE TRIGGER attachments_of_dropped_messages AFTER DELETE ON messages
    REFERENCING OLD TABLE AS dropped FOR EACH STATEMENT
    EXECUTE FUNCTION attachments_of_dropped_messages();
CREATE OR REPLACE TRIGGER attachments_of_deleted_conversation AFTER UPDATE OF deleted_at ON conversations
    FOR EACH ROW WHEN (OLD.deleted_at IS NULL AND NEW.deleted_at IS NOT NULL)
    EXECUTE FUNCTION attachments_of_deleted_conversation();

-- +goose Down
DROP TRIGGER IF EXISTS attachments_of_deleted_conversation ON conversations;
DROP TRIGGER IF EXISTS attachments_of_deleted_message ON messages;
DROP TRIGGER IF EXISTS attachments_of_dropped_messages ON messages;
DROP FUNCTION IF EXISTS attachments_of_deleted_conversation, attachments_of_deleted_message, attachments_of_dropped_messages;
DROP TABLE IF EXISTS attachments, attachment_conversations;
