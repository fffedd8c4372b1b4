-- Applies changes of reactions to any number of messages and brings each changed message one revision. It is the second
-- statement of a transaction whose first one locked the conversations, so it sees all changes before.
-- Parameters, each an array with one element a change, and at most one for each message, user and reaction: its place in the
-- batch, message, user, reaction, whether it is added (else removed). Lines that begin with a plus after the dashes are for batches with
-- changes of keys that act for users: a sixth array has their entries of the audit log (audit.Signed), null for other changes.
-- Returns a row a change: ord, outcome, conversation, the message's revision, whether this change moved anything, when, the
-- message's reactions and the user's own, both as JSON.
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
target AS MATERIALIZED (
    SELECT m.id, m.conversation_id, m.revision AS message_revision, coalesce(m.reactions, '[]') AS reactions, m.deleted_at IS NOT NULL AS deleted,
           c.type, c.posting, c.revision, c.last_seq
    FROM (SELECT DISTINCT message_id FROM input) i
    CROSS JOIN LATERAL (SELECT m.id, m.conversation_id, m.revision, m.reactions, m.deleted_at FROM messages m WHERE m.id = i.message_id OFFSET 0) m
    CROSS JOIN LATERAL (SELECT c.type, c.posting, c.revision, c.last_seq FROM conversations c WHERE c.id = m.conversation_id OFFSET 0) c
),
checked AS MATERIALIZED (
    SELECT i.*, t.conversation_id,
           (SELECT true FROM message_reactions r
            WHERE r.message_id = i.message_id AND r.user_id = i.user_id AND r.reaction = i.reaction) IS NOT NULL AS has,
           CASE
               WHEN k.user_id IS NULL THEN 'not_found'
               WHEN t.type = 'direct' AND EXISTS (
                   SELECT FROM conversation_members o
                   JOIN blocks b ON (b.user_id = o.user_id AND b.blocked_id = i.user_id) OR (b.user_id = i.user_id AND b.blocked_id = o.user_id)
                   WHERE o.conversation_id = t.conversation_id AND o.user_id <> i.user_id) THEN 'blocked'
               WHEN t.posting = 'admins' AND k.role = 'member' THEN 'no_posting'
               WHEN t.deleted THEN 'deleted'
               ELSE 'done'
           END AS outcome
    FROM input i
    LEFT JOIN target t ON t.id = i.message_id
    LEFT JOIN LATERAL (
        SELECT k.user_id, k.role FROM conversation_members k WHERE k.conversation_id = t.conversation_id AND k.user_id = i.user_id OFFSET 0) k ON true
),
wanted AS MATERIALIZED (
    SELECT c.message_id, c.user_id, c.reaction, c.ord,
           (SELECT count(*) FROM message_reactions r WHERE r.message_id = c.message_id AND r.user_id = c.user_id)
           + row_number() OVER (PARTITION BY c.message_id, c.user_id ORDER BY c.ord) AS nth_of_user
    FROM checked c
    WHERE c.outcome = 'done' AND c.added AND NOT c.has
),
-- Reactions that a message did not have yet, counted on from those that it has.
fresh AS MATERIALIZED (
    SELECT w.message_id, w.reaction,
           jsonb_array_length(t.reactions) + row_number() OVER (PARTITION BY w.message_id ORDER BY min(w.ord)) AS nth
    FROM wanted w
    JOIN target t ON t.id = w.message_id
    WHERE w.nth_of_user <= 10 AND NOT t.reactions @> jsonb_build_array(jsonb_build_object('reaction', w.reaction))
    GROUP BY w.message_id, w.reaction, t.reactions
),
inserted AS (
    INSERT INTO message_reactions (message_id, user_id, reaction)
    SELECT w.message_id, w.user_id, w.reaction
    FROM wanted w
    LEFT JOIN fresh f ON f.message_id = w.message_id AND f.reaction = w.reaction
    WHERE w.nth_of_user <= 10 AND coalesce(f.nth, 0) <= 20
    ORDER BY w.ord
    RETURNING message_id, user_id, reaction, created_at
),
removed AS (
    DELETE FROM message_reactions r
    USING checked c
    WHERE c.outcome = 'done' AND c.has AND NOT c.added
      AND r.message_id = c.message_id AND r.user_id = c.user_id AND r.reaction = c.reaction
    RETURNING r.message_id, r.user_id, r.reaction
),
moves AS MATERIALIZED (
    SELECT message_id, user_id, reaction, 1 AS delta FROM inserted
    UNION ALL
    SELECT message_id, user_id, reaction, -1 FROM removed
),
--+ audited AS (
--+     INSERT INTO audit_log (id, actor_user_id, actor_key_id, action, target_type, target_id, request_id, ip, detail)
--+     SELECT e.id, e.user_id, e.key_id, e.action, e.type, e.target, e.request_id, e.ip, e.detail
--+     FROM moves v
--+     JOIN input i ON i.message_id = v.message_id AND i.user_id = v.user_id AND i.reaction = v.reaction
--+     CROSS JOIN jsonb_to_record(i.entry)
--+       AS e (id uuid, user_id uuid, key_id uuid, action text, type text, target text, request_id text, ip text, detail jsonb)
--+     WHERE i.entry IS NOT NULL
--+ ),
deltas AS MATERIALIZED (
    SELECT message_id, reaction, sum(delta)::int AS delta FROM moves GROUP BY 1, 2
),
changed AS MATERIALIZED (
    SELECT t.*, n.users, t.revision + row_number() OVER (PARTITION BY t.conversation_id ORDER BY t.id) AS new_revision
    FROM (SELECT message_id, array_agg(DISTINCT user_id) AS users FROM moves GROUP BY 1) n
    JOIN target t ON t.id = n.message_id
),
-- In the order of their first use. A reaction without users is removed, and is added at the end if it is used again.
summaries AS MATERIALIZED (
    SELECT s.message_id, jsonb_agg(jsonb_build_object('reaction', s.reaction, 'count', s.n) ORDER BY s.place) AS reactions
    FROM (
        SELECT c.id AS message_id, o.value ->> 'reaction' AS reaction, (o.value ->> 'count')::int + coalesce(d.delta, 0) AS n, o.ordinality AS place
        FROM changed c
        CROSS JOIN jsonb_array_elements(c.reactions) WITH ORDINALITY AS o
        LEFT JOIN deltas d ON d.message_id = c.id AND d.reaction = o.value ->> 'reaction'
        UNION ALL
        SELECT f.message_id, f.reaction, d.delta, f.nth
        FROM fresh f
        JOIN deltas d ON d.message_id = f.message_id AND d.reaction = f.reaction
    ) s
    WHERE s.n > 0
    GROUP BY s.message_id
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
    SELECT conversation_id, new_revision, last_seq, 'updated', 'message_reacted', id, users, CASE WHEN cardinality(users) = 1 THEN users[1] END
--+     , CASE WHEN cardinality(users) = 1 THEN (
--+           SELECT (i.entry ->> 'key_id')::uuid FROM input i WHERE i.message_id = changed.id AND i.user_id = users[1] AND i.entry IS NOT NULL LIMIT 1) END
    FROM changed
),
updated AS (
    UPDATE messages m
    SET reactions = s.reactions, revision = c.new_revision, changed = c.new_revision
    FROM changed c
    LEFT JOIN summaries s ON s.message_id = c.id
    WHERE m.id = c.id
),
own AS MATERIALIZED (
    SELECT o.message_id, o.user_id, json_agg(o.reaction ORDER BY o.created_at, o.reaction) AS reactions
    FROM (
        SELECT r.message_id, r.user_id, r.reaction, r.created_at
        FROM (SELECT DISTINCT message_id, user_id FROM input) i
        CROSS JOIN LATERAL (SELECT r.* FROM message_reactions r WHERE r.message_id = i.message_id AND r.user_id = i.user_id OFFSET 0) r
        WHERE NOT EXISTS (SELECT FROM removed d WHERE d.message_id = r.message_id AND d.user_id = r.user_id AND d.reaction = r.reaction)
        UNION ALL
        SELECT message_id, user_id, reaction, created_at FROM inserted
    ) o
    GROUP BY 1, 2
)
SELECT k.ord,
       CASE WHEN k.outcome = 'done' AND k.added AND NOT k.has AND v.delta IS NULL THEN 'too_many' ELSE k.outcome END,
       coalesce(k.conversation_id::text, ''), coalesce(c.new_revision, t.message_revision, 0), v.delta IS NOT NULL, clock_timestamp(),
       coalesce(CASE WHEN c.id IS NOT NULL THEN s.reactions ELSE t.reactions END, '[]')::text, coalesce(o.reactions, '[]')::text
FROM checked k
LEFT JOIN target t ON t.id = k.message_id
LEFT JOIN changed c ON c.id = k.message_id
LEFT JOIN summaries s ON s.message_id = k.message_id
LEFT JOIN moves v ON v.message_id = k.message_id AND v.user_id = k.user_id AND v.reaction = k.reaction
LEFT JOIN own o ON o.message_id = k.message_id AND o.user_id = k.user_id
ORDER BY k.ord
