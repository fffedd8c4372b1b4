-- Applies changes of reactions to any number of messages and brings each changed message one revision. It is the second
-- statement of a transaction whose first one locked the conversations, so it sees all changes before, and what it finds stays so.
-- Parameters, each an array with one element a change, and at most one for each message, user and reaction: its place in the
-- batch, message, user, reaction, whether it is added (else removed). Lines that begin with a plus after the dashes are for batches with
-- changes of keys that act for users: a sixth array has their entries of the audit log (audit.Signed), null for other changes.
-- Returns a row a change: ord, outcome, conversation, the message's revision, whether this change moved anything, when, the
-- message's reactions as JSON, and those that the user had before.
--
-- Rows are looked up one by one (OFFSET 0 keeps the planner from joining whole tables): a plan that was made while the tables were small
-- would otherwise read all of them for each batch.
WITH input AS MATERIALIZED (
    SELECT *
    FROM unnest((SELECT $1::int[]), $2::text[]::uuid[], $3::text[]::uuid[], $4::text[], $5::boolean[]
--+       , $6::text[]::jsonb[]
      )
      AS i (ord, message_id, user_id, reaction, added
--+       , entry
      )
),
found AS MATERIALIZED (
    SELECT i.*, m.conversation_id, m.revision AS message_revision, m.reactions, c.revision, c.last_seq,
           ARRAY(SELECT r.reaction FROM message_reactions r WHERE r.message_id = i.message_id AND r.user_id = i.user_id
                 ORDER BY r.created_at, r.reaction) AS mine,
           CASE
               WHEN k.role IS NULL THEN 'not_found'
               WHEN c.type = 'direct' AND EXISTS (
                   SELECT FROM conversation_members o
                   JOIN blocks b ON (b.user_id = o.user_id AND b.blocked_id = i.user_id) OR (b.user_id = i.user_id AND b.blocked_id = o.user_id)
                   WHERE o.conversation_id = m.conversation_id AND o.user_id <> i.user_id) THEN 'blocked'
               WHEN c.posting = 'admins' AND k.role = 'member' THEN 'no_posting'
               WHEN m.deleted_at IS NOT NULL THEN 'deleted'
               ELSE 'done'
           END AS outcome
    FROM input i
    LEFT JOIN LATERAL (
        SELECT m.conversation_id, m.revision, coalesce(m.reactions, '[]') AS reactions, m.deleted_at FROM messages m WHERE m.id = i.message_id OFFSET 0) m ON true
    LEFT JOIN LATERAL (SELECT c.type, c.posting, c.revision, c.last_seq FROM conversations c WHERE c.id = m.conversation_id OFFSET 0) c ON true
    LEFT JOIN LATERAL (
        SELECT k.role FROM conversation_members k WHERE k.conversation_id = m.conversation_id AND k.user_id = i.user_id OFFSET 0) k ON true
),
-- The reactions that would be added, counted on from those that the user has given.
wanted AS MATERIALIZED (
    SELECT f.ord, f.message_id, f.reaction, f.reactions,
           cardinality(f.mine) + row_number() OVER (PARTITION BY f.message_id, f.user_id ORDER BY f.ord) AS nth_of_user
    FROM found f
    WHERE f.outcome = 'done' AND f.added AND f.reaction <> ALL (f.mine)
),
-- Reactions that a message does not have yet, counted on from those that it has.
fresh AS MATERIALIZED (
    SELECT w.message_id, w.reaction, jsonb_array_length(w.reactions) + row_number() OVER (PARTITION BY w.message_id ORDER BY min(w.ord)) AS nth
    FROM wanted w
    WHERE w.nth_of_user <= 10 AND NOT w.reactions @> jsonb_build_array(jsonb_build_object('reaction', w.reaction))
    GROUP BY w.message_id, w.reaction, w.reactions
),
-- moves is null for an addition of what the user has given already: it is done, and moves nothing.
decided AS MATERIALIZED (
    SELECT f.*, CASE WHEN f.added THEN w.nth_of_user <= 10 AND coalesce(n.nth, 0) <= 20 ELSE f.reaction = ANY (f.mine) END AS moves
    FROM found f
    LEFT JOIN wanted w ON w.ord = f.ord
    LEFT JOIN fresh n ON n.message_id = w.message_id AND n.reaction = w.reaction
),
inserted AS (
    INSERT INTO message_reactions (message_id, user_id, reaction)
    SELECT message_id, user_id, reaction FROM decided WHERE outcome = 'done' AND moves AND added ORDER BY ord
),
removed AS (
    DELETE FROM message_reactions r
    USING decided d
    WHERE d.outcome = 'done' AND d.moves AND NOT d.added AND r.message_id = d.message_id AND r.user_id = d.user_id AND r.reaction = d.reaction
),
--+ audited AS (
--+     INSERT INTO audit_log (id, actor_user_id, actor_key_id, action, target_type, target_id, request_id, ip, detail)
--+     SELECT e.id, e.user_id, e.key_id, e.action, e.type, e.target, e.request_id, e.ip, e.detail
--+     FROM decided d
--+     CROSS JOIN jsonb_to_record(d.entry)
--+       AS e (id uuid, user_id uuid, key_id uuid, action text, type text, target text, request_id text, ip text, detail jsonb)
--+     WHERE d.outcome = 'done' AND d.moves AND d.entry IS NOT NULL
--+ ),
changed AS MATERIALIZED (
    SELECT message_id, conversation_id, last_seq, reactions, array_agg(DISTINCT user_id) AS users,
           revision + row_number() OVER (PARTITION BY conversation_id ORDER BY message_id) AS new_revision
--+       , (array_agg(entry ->> 'key_id') FILTER (WHERE entry IS NOT NULL))[1]::uuid AS key_id
    FROM decided
    WHERE outcome = 'done' AND moves
    GROUP BY message_id, conversation_id, revision, last_seq, reactions
),
-- In the order of their first use. A reaction without users is removed, and is added at the end if it is used again.
summaries AS (
    SELECT message_id, jsonb_agg(jsonb_build_object('reaction', reaction, 'count', n) ORDER BY place) AS reactions
    FROM (
        SELECT message_id, reaction, sum(n) AS n, min(place) AS place
        FROM (
            SELECT c.message_id, o.value ->> 'reaction' AS reaction, (o.value ->> 'count')::int AS n, o.place
            FROM changed c
            CROSS JOIN jsonb_array_elements(c.reactions) WITH ORDINALITY AS o (value, place)
            UNION ALL
            SELECT message_id, reaction, CASE WHEN added THEN 1 ELSE -1 END, 100 + ord FROM decided WHERE outcome = 'done' AND moves
        ) moved
        GROUP BY message_id, reaction
        HAVING sum(n) > 0
    ) counted
    GROUP BY message_id
),
moved AS (
    UPDATE conversations c
    SET revision = n.revision, changed_at = date_trunc('second', clock_timestamp())
    FROM (SELECT conversation_id, max(new_revision) AS revision FROM changed GROUP BY 1) n
    WHERE c.id = n.conversation_id
),
noted AS (
    INSERT INTO conversation_changes (conversation_id, revision, last_seq, kind, detail, message_id, user_ids, actor_id
--+     , key_id
    )
    SELECT conversation_id, new_revision, last_seq, 'updated', 'message_reacted', message_id, users, CASE WHEN cardinality(users) = 1 THEN users[1] END
--+     , CASE WHEN cardinality(users) = 1 THEN key_id END
    FROM changed
),
updated AS (
    UPDATE messages m
    SET reactions = s.reactions, revision = c.new_revision, changed = c.new_revision
    FROM changed c
    LEFT JOIN summaries s ON s.message_id = c.message_id
    WHERE m.id = c.message_id
    RETURNING m.id, m.revision, m.reactions
)
SELECT d.ord,
       CASE WHEN d.outcome = 'done' AND d.added AND NOT d.moves THEN 'too_many' ELSE d.outcome END,
       coalesce(d.conversation_id::text, ''), coalesce(u.revision, d.message_revision, 0), coalesce(d.outcome = 'done' AND d.moves, false), clock_timestamp(),
       coalesce(CASE WHEN u.id IS NOT NULL THEN u.reactions ELSE d.reactions END, '[]')::text, d.mine
FROM decided d
LEFT JOIN updated u ON u.id = d.message_id
