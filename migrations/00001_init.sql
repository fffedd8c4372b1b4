-- +goose Up
CREATE TABLE users (
    id                    uuid        PRIMARY KEY,
    username              text        NOT NULL CONSTRAINT users_username_key UNIQUE,
    display_name          text        NOT NULL,
    avatar_url            text,
    password_hash         text        NOT NULL,
    presence_sharing      text        NOT NULL DEFAULT 'everyone' CHECK (presence_sharing IN ('everyone', 'friends', 'nobody')),
    read_receipts_enabled boolean     NOT NULL DEFAULT true,
    last_seen_at          timestamptz,
    created_at            timestamptz NOT NULL DEFAULT clock_timestamp(),
    deleted_at            timestamptz
);

CREATE TABLE sessions (
    id           uuid        PRIMARY KEY,
    user_id      uuid        NOT NULL REFERENCES users (id),
    user_agent   text        NOT NULL DEFAULT '',
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_used_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at   timestamptz NOT NULL,
    ended_at     timestamptz
);
CREATE INDEX sessions_user_idx ON sessions (user_id) WHERE ended_at IS NULL;
-- What every pod asks every two seconds: which sessions ended lately.
CREATE INDEX sessions_ended_idx ON sessions (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX sessions_expiry_idx ON sessions (expires_at) WHERE ended_at IS NULL;

-- Every refresh token that a session was ever given and that has not been forgotten. A token is spent once; its children
-- are those that were given for it, more than one only where it was repeated within the grace.
CREATE TABLE refresh_tokens (
    hash       text        PRIMARY KEY, -- SHA-256, in hexadecimal
    session_id uuid        NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    parent     text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    spent_at   timestamptz
);
CREATE INDEX refresh_tokens_session_idx ON refresh_tokens (session_id);
CREATE INDEX refresh_tokens_parent_idx ON refresh_tokens (parent) WHERE parent IS NOT NULL;

-- A friendship and a request for one: a row per direction for friends, one row for a request (user_id asked friend_id).
CREATE TABLE friendships (
    user_id    uuid        NOT NULL REFERENCES users (id),
    friend_id  uuid        NOT NULL REFERENCES users (id),
    status     text        NOT NULL CHECK (status IN ('pending', 'accepted')),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (user_id, friend_id),
    CHECK (user_id <> friend_id)
);
CREATE INDEX friendships_list_idx ON friendships (user_id, status, created_at DESC, friend_id DESC);
CREATE INDEX friendships_incoming_idx ON friendships (friend_id, created_at DESC, user_id DESC) WHERE status = 'pending';

CREATE TABLE blocks (
    user_id    uuid        NOT NULL REFERENCES users (id),
    blocked_id uuid        NOT NULL REFERENCES users (id),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (user_id, blocked_id),
    CHECK (user_id <> blocked_id)
);
CREATE INDEX blocks_list_idx ON blocks (user_id, created_at DESC, blocked_id DESC);
CREATE INDEX blocks_of_idx ON blocks (blocked_id);

-- last_seq, revision, last_message_at and member_count are handed out under the row's lock. changed_at is the second in
-- which revision last moved: coarse, so that the updates of a busy conversation stay heap-only.
CREATE TABLE conversations (
    id              uuid        PRIMARY KEY,
    type            text        NOT NULL CHECK (type IN ('direct', 'group')),
    name            text,
    direct_key      text        CONSTRAINT conversations_direct_key UNIQUE,
    last_message_id uuid,
    last_message_at timestamptz NOT NULL,
    last_seq        bigint      NOT NULL DEFAULT 0,
    revision        bigint      NOT NULL DEFAULT 1,
    member_count    integer     NOT NULL,
    created_at      timestamptz NOT NULL,
    changed_at      timestamptz NOT NULL DEFAULT date_trunc('second', clock_timestamp())
) WITH (fillfactor = 70);
CREATE INDEX conversations_changed_idx ON conversations (changed_at);

CREATE TABLE conversation_members (
    conversation_id uuid        NOT NULL REFERENCES conversations (id),
    user_id         uuid        NOT NULL REFERENCES users (id),
    role            text        NOT NULL CHECK (role IN ('owner', 'admin', 'member')),
    joined_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_read_seq   bigint      NOT NULL DEFAULT 0,
    PRIMARY KEY (conversation_id, user_id)
) WITH (fillfactor = 70);
CREATE INDEX conversation_members_user_idx ON conversation_members (user_id);
CREATE INDEX conversation_members_list_idx ON conversation_members (conversation_id, joined_at, user_id);

CREATE TABLE messages (
    id                uuid        PRIMARY KEY,
    conversation_id   uuid        NOT NULL REFERENCES conversations (id),
    seq               bigint      NOT NULL,
    revision          bigint      NOT NULL,
    sender_id         uuid        NOT NULL REFERENCES users (id),
    content           text        NOT NULL,
    content_hash      bytea,
    client_message_id text,
    reply_to_id       uuid,
    created_at        timestamptz NOT NULL,
    edited_at         timestamptz,
    deleted_at        timestamptz,
    CONSTRAINT messages_seq_key UNIQUE (conversation_id, seq)
);
CREATE UNIQUE INDEX messages_client_message_id_key ON messages (conversation_id, sender_id, client_message_id) WHERE client_message_id IS NOT NULL;
CREATE INDEX messages_history_idx ON messages (conversation_id, created_at DESC, id DESC);

-- Every change of a conversation but a new message, by the revision that it brought. A new message needs no row: the
-- revisions that are missing here are its messages, in the order of seq. last_seq is the conversation's at that revision,
-- so that seq and revision can be had from each other (message.store: seqAt).
CREATE TABLE conversation_changes (
    conversation_id uuid        NOT NULL REFERENCES conversations (id),
    revision        bigint      NOT NULL,
    last_seq        bigint      NOT NULL,
    kind            text        NOT NULL CHECK (kind IN ('created', 'updated', 'member_added', 'member_removed', 'message_updated', 'message_deleted')),
    message_id      uuid,
    user_ids        uuid[],
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (conversation_id, revision)
);
-- What every pod asks every two seconds: who was put into a conversation lately.
CREATE INDEX conversation_changes_joins_idx ON conversation_changes (created_at) WHERE kind IN ('created', 'member_added');

CREATE TABLE read_receipts (
    message_id uuid        NOT NULL REFERENCES messages (id),
    user_id    uuid        NOT NULL REFERENCES users (id),
    read_at    timestamptz NOT NULL,
    PRIMARY KEY (message_id, user_id)
);
CREATE INDEX read_receipts_list_idx ON read_receipts (message_id, read_at, user_id);

-- +goose Down
DROP TABLE read_receipts, conversation_changes, messages, conversation_members, conversations, blocks, friendships, refresh_tokens, sessions, users;
