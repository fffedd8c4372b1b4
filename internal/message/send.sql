-- Stores a batch of messages, all or nothing. It assigns seq, revision and created_at while it holds the locks of the conversations' rows.
-- Parameters, each an array with one element per message: position in the batch, conversation, sender, id, content, clientMessageId, message
-- replied to, hash of the draft; then a time for tests, or null.
-- Returns a row per message: ord, outcome, seq, revision, created_at, whether the sender had unread messages of others.
--
-- Lines that begin with "--" and a plus are for batches in which a message has more than that, so that batches of plain messages don't pay for
-- them. Their parameters, arrays too: kind, metadata, mentioned users (the literal of an array for each message), whether all are
-- mentioned, the server key, the rules (member: those of the sender; key: those of a member, without blocks and the conversation's posting
-- setting; bot: the sender need not be a member), files (the literal of an array for each message), and the key's entry of the audit log
-- (audit.Signed), null without a key. Their rows have a seventh column: the files as clients see them.
--
-- The statement waits for locks, and its snapshot is older than these locks. Rows that may have changed meanwhile (conversations, members) are
-- therefore read with a lock: Postgres then returns the newest version of the row, or none if it was deleted. A clientMessageId that another
-- statement has stored meanwhile can't be seen: the unique index then fails the whole statement.
--
-- Three forms of the queries are for the planner, which may keep a plan that was made while the tables were small:
-- - Messages are looked up by scalar subqueries. An EXISTS may be hashed, and then reads the whole table for each batch.
-- - The lookup of a clientMessageId has an ORDER BY that only its own index satisfies. Otherwise, while the table is small, any index that
--   begins with the conversation costs the same, and another one would read the whole conversation once it has grown.
-- - The first array is hidden in a subquery, so that the planner does not see its length. Otherwise a custom plan for a batch of one looks
--   cheaper than the generic plan, and small batches are planned each time, which takes twice as long as running them.
WITH input AS MATERIALIZED (
    SELECT *
    FROM unnest((SELECT $1::int[]), $2::text[]::uuid[], $3::text[]::uuid[], $4::text[]::uuid[], $5::text[], $6::text[], $7::text[]::uuid[], $8::bytea[]
--+       , $10::text[], $11::text[]::jsonb[], $12::text[]::text[], $13::boolean[], $14::text[]::uuid[], $15::text[], $16::text[], $17::text[]::jsonb[]
      )
      AS i (ord, conversation_id, sender_id, id, content, client_message_id, reply_to_id, content_hash
--+       , kind, metadata, mention_ids, mention_all, key_id, rules, attachments, entry
      )
),
-- Rows are locked in the order of their ids, so that two pods' batches don't deadlock; a stranger locks nothing.
locked AS MATERIALIZED (
    SELECT c.id, c.type, c.last_seq, c.revision, c.posting, c.member_count,
           greatest(coalesce($9::timestamptz, clock_timestamp()), c.last_message_at + interval '1 microsecond') AS base
    FROM conversations c
    WHERE c.id = ANY (ARRAY(
        SELECT m.conversation_id FROM input i
        JOIN conversation_members m ON m.conversation_id = i.conversation_id AND m.user_id = i.sender_id
--+     UNION ALL SELECT i.conversation_id FROM input i WHERE i.rules = 'bot'
        ))
--+   AND c.deleted_at IS NULL
    ORDER BY c.id
    FOR NO KEY UPDATE OF c
),
members AS MATERIALIZED (
    SELECT m.conversation_id, m.user_id, m.role, m.last_read_seq
    FROM locked l
    JOIN conversation_members m ON m.conversation_id = l.id
    WHERE (m.conversation_id, m.user_id) IN (SELECT i.conversation_id, i.sender_id FROM input i)
    ORDER BY m.conversation_id, m.user_id
    FOR NO KEY UPDATE OF m
),
--+ -- The sender's own files that can be sent, locked in the order of their ids. One that another statement sent meanwhile is gone
--+ -- from here. turn is above 1 for a file that another message of the batch names before.
--+ files AS MATERIALIZED (
--+     SELECT i.ord, u.place, a.id, a.filename, a.content_type, a.size, a.width, a.height
--+     FROM input i CROSS JOIN unnest(i.attachments::uuid[]) WITH ORDINALITY AS u (id, place)
--+     JOIN attachments a ON a.id = u.id AND a.owner_id = i.sender_id AND a.state = 'ready' AND a.message_id IS NULL
--+     ORDER BY a.id
--+     FOR NO KEY UPDATE OF a
--+ ),
--+ turns AS MATERIALIZED (
--+     SELECT ord, row_number() OVER (PARTITION BY id ORDER BY ord) AS turn FROM files
--+ ),
checked AS MATERIALIZED (
    SELECT i.*, l.last_seq, l.revision, l.base, m.last_read_seq AS read_seq,
           CASE
               WHEN m.user_id IS NULL
--+                AND (i.rules <> 'bot' OR l.id IS NULL)
                   THEN 'not_member'
               WHEN i.client_message_id IS NOT NULL AND (
                   SELECT true FROM messages d
                   WHERE d.conversation_id = i.conversation_id AND d.sender_id = i.sender_id
                   AND d.client_message_id BETWEEN i.client_message_id AND i.client_message_id
                   ORDER BY d.client_message_id LIMIT 1)
                   THEN 'duplicate'
               WHEN l.type = 'direct' AND EXISTS (
                   SELECT FROM conversation_members o
                   JOIN blocks b ON (b.user_id = o.user_id AND b.blocked_id = i.sender_id) OR (b.user_id = i.sender_id AND b.blocked_id = o.user_id)
                   WHERE o.conversation_id = i.conversation_id AND o.user_id <> i.sender_id)
--+                AND i.rules = 'member'
                   THEN 'blocked'
               WHEN l.posting = 'admins' AND m.role = 'member'
--+                AND i.rules = 'member'
                   THEN 'no_posting'
               WHEN i.reply_to_id IS NOT NULL AND (
                   SELECT r.conversation_id FROM messages r WHERE r.id = i.reply_to_id) IS DISTINCT FROM i.conversation_id
                   THEN 'bad_reply'
--+            WHEN i.mention_ids IS NOT NULL AND EXISTS (
--+                SELECT FROM unnest(i.mention_ids::uuid[]) AS u (id)
--+                LEFT JOIN conversation_members k ON k.conversation_id = i.conversation_id AND k.user_id = u.id
--+                WHERE k.user_id IS NULL OR EXISTS (
--+                    SELECT FROM blocks b WHERE (b.user_id = u.id AND b.blocked_id = i.sender_id) OR (b.user_id = i.sender_id AND b.blocked_id = u.id)))
--+                THEN 'bad_mention'
--+            WHEN i.mention_all AND i.rules = 'member' AND l.type = 'group' AND l.member_count > 100 AND m.role = 'member' THEN 'no_mention_all'
--+            WHEN i.attachments IS NOT NULL AND cardinality(i.attachments::uuid[]) <> (SELECT count(*) FROM turns f WHERE f.ord = i.ord AND f.turn = 1)
--+                THEN 'bad_attachment'
               ELSE 'stored'
           END AS outcome
    FROM input i
    LEFT JOIN locked l ON l.id = i.conversation_id
    LEFT JOIN members m ON m.conversation_id = i.conversation_id AND m.user_id = i.sender_id
),
numbered AS MATERIALIZED (
    SELECT ord, conversation_id, sender_id, id, content, client_message_id, reply_to_id, content_hash,
--+        kind, metadata, mention_ids::uuid[] AS mention_ids, mention_all, key_id, rules, entry,
--+        (SELECT jsonb_agg(jsonb_strip_nulls(jsonb_build_object('id', f.id, 'filename', f.filename, 'contentType', f.content_type,
--+             'size', f.size, 'width', f.width, 'height', f.height)) ORDER BY f.place)
--+         FROM files f WHERE f.ord = checked.ord) AS attachments,
           last_seq + row_number() OVER w AS seq,
           revision + row_number() OVER w AS revision,
           base + (row_number() OVER w - 1) * interval '1 microsecond' AS created_at
    FROM checked
    WHERE outcome = 'stored'
    WINDOW w AS (PARTITION BY conversation_id ORDER BY ord)
),
inserted AS (
    INSERT INTO messages (id, conversation_id, seq, revision, sender_id, content, content_hash, client_message_id, reply_to_id, created_at
--+     , kind, metadata, mention_ids, mention_all, key_id, attachments
    )
    SELECT id, conversation_id, seq, revision, sender_id, content, content_hash, client_message_id, reply_to_id, created_at
--+     , kind, metadata, mention_ids, nullif(mention_all, false), key_id, attachments
    FROM numbered
),
--+ mentioned AS (
--+     INSERT INTO message_mentions (conversation_id, seq, user_id, sender_id)
--+     SELECT n.conversation_id, n.seq, u.id, n.sender_id FROM numbered n CROSS JOIN unnest(n.mention_ids) AS u (id) WHERE NOT n.mention_all
--+     UNION ALL
--+     SELECT n.conversation_id, n.seq, NULL, n.sender_id FROM numbered n WHERE n.mention_all
--+ ),
--+ audited AS (
--+     INSERT INTO audit_log (id, actor_user_id, actor_key_id, action, target_type, target_id, request_id, ip, detail)
--+     SELECT e.id, e.user_id, e.key_id, e.action, e.type, e.target, e.request_id, e.ip, e.detail
--+     FROM numbered n CROSS JOIN jsonb_to_record(n.entry)
--+       AS e (id uuid, user_id uuid, key_id uuid, action text, type text, target text, request_id text, ip text, detail jsonb)
--+     WHERE n.entry IS NOT NULL
--+ ),
--+ sent AS (
--+     UPDATE attachments a SET message_id = n.id, conversation_id = n.conversation_id
--+     FROM files f JOIN numbered n ON n.ord = f.ord
--+     WHERE a.id = f.id
--+ ),
moved AS (
    UPDATE conversations c
    SET last_message_id = n.id, last_message_at = n.created_at, last_seq = n.seq, revision = n.revision,
        changed_at = date_trunc('second', clock_timestamp())
    FROM (SELECT DISTINCT ON (conversation_id) * FROM numbered ORDER BY conversation_id, seq DESC) n
    WHERE c.id = n.conversation_id
),
marked AS (
    UPDATE conversation_members m
    SET last_read_seq = n.seq, last_read_at = clock_timestamp(), marked_unread = false, state_xid = pg_current_xact_id()
    FROM (SELECT conversation_id, sender_id, max(seq) AS seq FROM numbered GROUP BY 1, 2) n
    WHERE m.conversation_id = n.conversation_id AND m.user_id = n.sender_id
)
SELECT k.ord, k.outcome, coalesce(n.seq, 0), coalesce(n.revision, 0), coalesce(n.created_at, 'epoch'), coalesce(n.seq > k.read_seq + 1, false)
--+    , n.attachments
FROM checked k
LEFT JOIN numbered n ON n.ord = k.ord
