-- +goose Up
-- pg_trgm is a trusted extension: who may create things in the database may create it. Where migrations run as somebody
-- else, an administrator creates it once before.
CREATE EXTENSION IF NOT EXISTS pg_trgm;

-- Lower case with one space between words. ICU's rules, where the server has them, hold whatever the database's locale is:
-- under the locale C (some operators' default) lower() knows ASCII only. One sigma, so that a prefix of a word is one.
-- +goose StatementBegin
DO $do$
DECLARE
    icu text := CASE WHEN EXISTS (SELECT FROM pg_collation WHERE collname = 'und-x-icu') THEN 'COLLATE "und-x-icu"' ELSE '' END;
BEGIN
    EXECUTE format($f$
        CREATE FUNCTION user_search_fold(name text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
        AS $$ SELECT btrim(regexp_replace(replace(lower(name %s), 'ς', 'σ'), '\s+', ' ', 'g')) $$ $f$, icu);
END
$do$;
-- +goose StatementEnd

-- What a user is found by: the username, and the display name from each of its words on. The collation makes the primary
-- key's order the order of bytes, in which a prefix is a range.
CREATE TABLE user_search_terms (
    term    text COLLATE "C" NOT NULL,
    user_id uuid             NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    PRIMARY KEY (term, user_id)
);
CREATE INDEX user_search_terms_user_idx ON user_search_terms (user_id);

-- Every word of a name that was ever used, once: misspellings are looked for among these, which are far fewer than users.
-- A word that nobody bears any more finds nobody. near is what it becomes without one of its letters, and itself: two words
-- that have one in common differ by a letter too many, too few, wrong, or exchanged for its neighbour. That is looked up in
-- no time however many words there are; trigrams are for what is further off. Without fastupdate no search reads a list of
-- what is not indexed yet.
CREATE TABLE user_search_words (
    word text   COLLATE "C" PRIMARY KEY,
    near text[] COLLATE "C" NOT NULL
);
CREATE INDEX user_search_words_near_idx ON user_search_words USING gin (near) WITH (fastupdate = off);
CREATE INDEX user_search_words_similar_idx ON user_search_words USING gin (word gin_trgm_ops) WITH (fastupdate = off);

-- % and _ are letters, so they end no word.
-- +goose StatementBegin
CREATE FUNCTION user_search_terms_of(username text, display_name text) RETURNS SETOF text
    LANGUAGE sql IMMUTABLE AS $$
    SELECT username
    UNION
    SELECT array_to_string(f.words[i:], '')
    FROM (SELECT regexp_split_to_array(user_search_fold(display_name), '(?<=[ ''"(),./-])(?=[^ ''"(),./-])') AS words) f,
        generate_subscripts(f.words, 1) i
$$;
-- +goose StatementEnd

-- Of a username it is what it begins with: no term begins further on.
-- +goose StatementBegin
CREATE FUNCTION user_search_words_of(username text, display_name text) RETURNS SETOF text
    LANGUAGE sql IMMUTABLE AS $$
    SELECT w FROM (
        SELECT substring(username FROM '^[a-z]+') AS w
        UNION
        SELECT regexp_split_to_table(user_search_fold(display_name), '[ ''"(),./-]+')
    ) words WHERE length(w) >= 3
$$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION user_search_near(word text) RETURNS text[]
    LANGUAGE sql IMMUTABLE AS $$
    SELECT array_agg(DISTINCT overlay(word PLACING '' FROM i FOR 1)) || word FROM generate_series(1, length(word)) i
$$;
-- +goose StatementEnd

-- Words are inserted in their order, so that two transactions with the same new words wait and don't deadlock.
-- +goose StatementBegin
CREATE FUNCTION users_search_changed() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM user_search_terms WHERE user_id = NEW.id;
    IF NEW.deleted_at IS NULL THEN
        INSERT INTO user_search_terms (term, user_id)
        SELECT t, NEW.id FROM user_search_terms_of(NEW.username, NEW.display_name) t;
        INSERT INTO user_search_words (word, near)
        SELECT w, user_search_near(w) FROM user_search_words_of(NEW.username, NEW.display_name) w ORDER BY w COLLATE "C" ON CONFLICT DO NOTHING;
    END IF;
    RETURN NULL;
END
$$;
-- +goose StatementEnd

CREATE TRIGGER users_search_changed AFTER INSERT OR UPDATE OF username, display_name, deleted_at ON users
    FOR EACH ROW EXECUTE FUNCTION users_search_changed();

INSERT INTO user_search_terms (term, user_id)
SELECT t, u.id FROM users u, user_search_terms_of(u.username, u.display_name) t WHERE u.deleted_at IS NULL;
INSERT INTO user_search_words (word, near)
SELECT w, user_search_near(w) FROM (
    SELECT DISTINCT w FROM users u, user_search_words_of(u.username, u.display_name) w WHERE u.deleted_at IS NULL
) words;

-- +goose Down
DROP TRIGGER users_search_changed ON users;
DROP FUNCTION users_search_changed();
DROP FUNCTION user_search_near(text);
DROP FUNCTION user_search_words_of(text, text);
DROP FUNCTION user_search_terms_of(text, text);
DROP TABLE user_search_words;
DROP TABLE user_search_terms;
DROP FUNCTION user_search_fold(text);
