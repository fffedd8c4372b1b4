-- +goose Up
-- The identity of the history that this database has (internal/history): one row, which the first api makes. epoch is random;
-- fingerprint is of the server and the database that the row was written on. A server with another fingerprint may have lost a tail.
CREATE TABLE IF NOT EXISTS history (
    one         boolean     PRIMARY KEY DEFAULT true CHECK (one),
    epoch       text        NOT NULL,
    fingerprint text        NOT NULL,
    since       timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- +goose Down
DROP TABLE history;
