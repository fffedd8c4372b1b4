-- +goose Up
-- pg_trgm is a trusted extension: the database's owner may create it. Where migrations run as somebody else, an
-- administrator creates it once before.
CREATE EXTENSION IF NOT EXISTS pg_trgm;

-- What a user is found by: the username, and the display name from each of its words on, in lower case. The collation
-- makes the primary key's order the order of bytes, in which a prefix is a range.
CREATE TABLE user_search_terms (
    term    text COLLATE "C" NOT NULL,
    user_id uuid             NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    PRIMARY KEY (term, user_id)
);
CREATE INDEX user_search_terms_user_idx ON user_search_terms (user_id);

-- +goose StatementBegin
CREATE FUNCTION user_search_terms_of(username text, display_name text) RETURNS SETOF text
    LANGUAGE sql IMMUTABLE AS $$
    SELECT username
    UNION
    SELECT array_to_string(w.words[i:], ' ')
    FROM (SELECT regexp_split_to_array(btrim(lower(display_name)), '\s+') AS words) w, generate_subscripts(w.words, 1) i
$$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION users_search_changed() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM user_search_terms WHERE user_id = NEW.id;
    IF NEW.deleted_at IS NULL THEN
        INSERT INTO user_search_terms (term, user_id)
        SELECT t, NEW.id FROM user_search_terms_of(NEW.username, NEW.display_name) t;
    END IF;
    RETURN NULL;
END
$$;
-- +goose StatementEnd

CREATE TRIGGER users_search_changed AFTER INSERT OR UPDATE OF username, display_name, deleted_at ON users
    FOR EACH ROW EXECUTE FUNCTION users_search_changed();

INSERT INTO user_search_terms (term, user_id)
SELECT t, u.id FROM users u, user_search_terms_of(u.username, u.display_name) t WHERE u.deleted_at IS NULL;

-- Misspellings are looked for in username and display name together.
CREATE INDEX users_similar_idx ON users USING gin ((username || ' ' || lower(display_name)) gin_trgm_ops) WHERE deleted_at IS NULL;

-- +goose Down
DROP INDEX users_similar_idx;
DROP TRIGGER users_search_changed ON users;
DROP FUNCTION users_search_changed();
DROP FUNCTION user_search_terms_of(text, text);
DROP TABLE user_search_terms;
