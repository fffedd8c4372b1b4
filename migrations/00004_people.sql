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
SET lock_timeout = 0; -- a concurrent build waits for transactions, and nothing waits for it
DROP INDEX CONCURRENTLY IF EXISTS conversation_members_roles_idx;

-- Owners and admins are few. Who inherits a group, and whether it has an owner, is found without reading all members.
CREATE INDEX CONCURRENTLY conversation_members_roles_idx ON conversation_members (conversation_id) WHERE role <> 'member';
RESET lock_timeout;

-- Who put a member there, null for oneself and for what is older: strangers may do so only so often a day.
ALTER TABLE conversation_members ADD COLUMN IF NOT EXISTS added_by uuid;

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

-- When the name or picture last changed, by whoever changed it: pods report it to those who see the user (realtime/profile.go).
ALTER TABLE users ADD COLUMN IF NOT EXISTS profile_changed_at timestamptz;
SET lock_timeout = 0; -- a concurrent build waits for transactions, and nothing waits for it
DROP INDEX CONCURRENTLY IF EXISTS users_profile_changed_idx;
CREATE INDEX CONCURRENTLY users_profile_changed_idx ON users (profile_changed_at) WHERE profile_changed_at IS NOT NULL;
RESET lock_timeout;

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION users_profile_changed() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    NEW.profile_changed_at := clock_timestamp();
    RETURN NEW;
END
$$;
-- +goose StatementEnd
CREATE OR REPLACE TRIGGER users_profile_changed BEFORE UPDATE OF username, display_name, avatar_url ON users
    FOR EACH ROW WHEN ((OLD.username, OLD.display_name, OLD.avatar_url) IS DISTINCT FROM (NEW.username, NEW.display_name, NEW.avatar_url))
    EXECUTE FUNCTION users_profile_changed();

-- Search. Names are found as people type them: without marks, with hyphens or without, words in any order, and within words of
-- scripts that put no spaces between them. First the new terms are made beside the old ones, a piece at a time, then the query's
-- folding is exchanged, then the old terms go: at every moment, and with code of before, names are found by one or the other.

-- user_search_plain is lower case without marks, with one space for white space and hyphens, without apostrophes. The compatibility
-- decomposition (NFKD) takes letters from their marks and makes wide letters and ligatures ordinary ones; what it has no
-- decomposition for is replaced by hand. Only marks of alphabets go: vowel signs of Indic scripts and Thai are letters, and NFKC puts
-- Hangul and Japanese sounds together again. One sigma, so that a prefix of a word is one.
-- +goose StatementBegin
DO $do$
DECLARE
    icu text := CASE WHEN EXISTS (SELECT FROM pg_collation WHERE collname = 'und-x-icu') THEN 'COLLATE "und-x-icu"' ELSE '' END;
BEGIN
    EXECUTE format($f$
        CREATE OR REPLACE FUNCTION user_search_plain(name text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
        AS $$ SELECT btrim(regexp_replace(regexp_replace(translate(replace(replace(replace(replace(
            normalize(regexp_replace(normalize(lower(name %s), NFKD), '[\u0300-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u064b-\u065f\u0670]', '', 'g'), NFKC),
            'ß', 'ss'), 'æ', 'ae'), 'œ', 'oe'), 'þ', 'th'), 'đðłøıħŧς', 'ddloihtσ'),
            '[''’‘ʼʻ`´]', '', 'g'), '[\s‐‑‒–—-]+', ' ', 'g')) $$ $f$, icu);
END
$do$;
-- +goose StatementEnd

-- What a user is found by: the username, and the display name from each of its words on; in scripts without spaces (Han, kana,
-- Hangul, Thai, Lao, Khmer, Myanmar) from each character on, so that any two that follow each other find it.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION user_search_terms_of(username text, display_name text) RETURNS SETOF text
    LANGUAGE sql IMMUTABLE AS $$
    SELECT username
    UNION
    SELECT user_search_plain(array_to_string(f.words[i:], ''))
    FROM (SELECT regexp_split_to_array(normalize(display_name, NFKC),
        '(?<=[\s''’‘ʼʻ`´"(),./‐‑‒–—-])(?=[^\s''’‘ʼʻ`´"(),./‐‑‒–—-])|(?=[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af])') AS words) f,
        generate_subscripts(f.words, 1) i
    WHERE user_search_plain(array_to_string(f.words[i:], '')) <> ''
$$;
-- +goose StatementEnd

-- Of a username it is what it begins with: no term begins further on.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION user_search_words_of(username text, display_name text) RETURNS SETOF text
    LANGUAGE sql IMMUTABLE AS $$
    SELECT w FROM (
        SELECT substring(username FROM '^[a-z]+') AS w
        UNION
        SELECT regexp_split_to_table(user_search_plain(display_name), '[ "(),./]+')
    ) words WHERE length(w) >= 3
$$;
-- +goose StatementEnd

-- user_search_word_used tells whether somebody is found by the word: a term that begins with it, and goes on with nothing, with
-- what separates words, or, in usernames, with what ends the letters. In bytes these are the ranges from the space to 9, and _.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION user_search_word_used(word text) RETURNS boolean
    LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT FROM user_search_terms t WHERE t.term = word)
        OR EXISTS (SELECT FROM user_search_terms t WHERE t.term >= word || ' ' AND t.term < word || ':')
        OR EXISTS (SELECT FROM user_search_terms t WHERE t.term >= word || '_' AND t.term < word || '`')
$$;
-- +goose StatementEnd

-- A word that nobody bears any more goes. Whoever comes to bear a word locks its row, so that it does not go in the meantime; rows are
-- locked in the order of words, so that two transactions wait for each other in one direction only. Each statement here has a
-- snapshot of its own, newer than the locks before it.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION users_search_changed() RETURNS trigger
    LANGUAGE plpgsql AS $$
DECLARE
    old_words text[] := '{}';
    new_words text[] := '{}';
    w         text;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF OLD.deleted_at IS NULL THEN
            old_words := ARRAY(SELECT user_search_words_of(OLD.username, OLD.display_name));
        END IF;
        DELETE FROM user_search_terms WHERE user_id = NEW.id;
    END IF;
    IF NEW.deleted_at IS NULL THEN
        new_words := ARRAY(SELECT user_search_words_of(NEW.username, NEW.display_name));
        INSERT INTO user_search_terms (term, user_id)
        SELECT t, NEW.id FROM user_search_terms_of(NEW.username, NEW.display_name) t ON CONFLICT DO NOTHING;
    END IF;
    FOR w IN SELECT DISTINCT u.w COLLATE "C" FROM unnest(old_words || new_words) u (w) ORDER BY 1 LOOP
        IF w <> ALL (new_words) THEN
            PERFORM FROM user_search_words s WHERE s.word = w FOR UPDATE;
        ELSE
            LOOP
                INSERT INTO user_search_words (word, near) VALUES (w, user_search_near(w)) ON CONFLICT DO NOTHING;
                PERFORM FROM user_search_words s WHERE s.word = w FOR KEY SHARE;
                EXIT WHEN FOUND; -- else it went between the two
            END LOOP;
        END IF;
    END LOOP;
    DELETE FROM user_search_words s WHERE s.word = ANY (old_words) AND s.word <> ALL (new_words) AND NOT user_search_word_used(s.word);
    RETURN NULL;
END
$$;
-- +goose StatementEnd

-- +goose StatementBegin
DO $do$
DECLARE
    after uuid := '00000000-0000-0000-0000-000000000000';
    upto  uuid;
BEGIN
    LOOP
        SELECT id INTO upto FROM (SELECT id FROM users WHERE id > after ORDER BY id LIMIT 500) piece ORDER BY id DESC LIMIT 1;
        EXIT WHEN upto IS NULL;
        INSERT INTO user_search_terms (term, user_id)
        SELECT t, u.id FROM users u, user_search_terms_of(u.username, u.display_name) t
        WHERE u.id > after AND u.id <= upto AND u.deleted_at IS NULL
        ORDER BY 1, 2 ON CONFLICT DO NOTHING;
        INSERT INTO user_search_words (word, near)
        SELECT w, user_search_near(w) FROM (
            SELECT DISTINCT w FROM users u, user_search_words_of(u.username, u.display_name) w
            WHERE u.id > after AND u.id <= upto AND u.deleted_at IS NULL
        ) words ORDER BY w COLLATE "C" ON CONFLICT DO NOTHING;
        COMMIT;
        after := upto;
    END LOOP;
END
$do$;
-- +goose StatementEnd

-- What queries are folded by, of the code before too.
CREATE OR REPLACE FUNCTION user_search_fold(name text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT user_search_plain(name) $$;

-- +goose StatementBegin
DO $do$
DECLARE
    after uuid := '00000000-0000-0000-0000-000000000000';
    upto  uuid;
    word_after text := '';
    word_upto  text;
BEGIN
    LOOP
        SELECT id INTO upto FROM (SELECT id FROM users WHERE id > after ORDER BY id LIMIT 500) piece ORDER BY id DESC LIMIT 1;
        EXIT WHEN upto IS NULL;
        -- Without a lock of the user's row somebody who is renamed at this moment would lose the new terms.
        PERFORM FROM users WHERE id > after AND id <= upto ORDER BY id FOR SHARE;
        DELETE FROM user_search_terms s USING users u
        WHERE u.id > after AND u.id <= upto AND s.user_id = u.id
            AND s.term NOT IN (SELECT user_search_terms_of(u.username, u.display_name));
        COMMIT;
        after := upto;
    END LOOP;
    LOOP
        SELECT word INTO word_upto FROM (SELECT word FROM user_search_words WHERE word > word_after ORDER BY word LIMIT 500) piece ORDER BY word DESC LIMIT 1;
        EXIT WHEN word_upto IS NULL;
        PERFORM FROM user_search_words WHERE word > word_after AND word <= word_upto ORDER BY word FOR UPDATE;
        DELETE FROM user_search_words WHERE word > word_after AND word <= word_upto AND NOT user_search_word_used(word);
        COMMIT;
        word_after := word_upto;
    END LOOP;
END
$do$;
-- +goose StatementEnd

-- +goose Down
-- Search keeps its new functions, which the code before can use.
DROP TRIGGER IF EXISTS users_profile_changed ON users;
DROP FUNCTION IF EXISTS users_profile_changed();
DROP INDEX IF EXISTS users_profile_changed_idx;
ALTER TABLE users DROP COLUMN IF EXISTS profile_changed_at;
DROP INDEX IF EXISTS conversation_members_roles_idx;
ALTER TABLE conversation_members DROP COLUMN IF EXISTS added_by;
DROP TABLE IF EXISTS login_addresses;
ALTER TABLE sessions DROP COLUMN IF EXISTS rotate_from;
