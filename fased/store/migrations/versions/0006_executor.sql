CREATE SCHEMA executor;

-- What was said. The key is the effect's own: an entry that is appended again changes nothing.
CREATE TABLE executor.transcript (
    namespace text NOT NULL,
    run_id bigint NOT NULL,
    step text NOT NULL,
    ordinal integer NOT NULL,
    session_key text NOT NULL,
    session_id text NOT NULL,
    sequence bigint NOT NULL,
    role text NOT NULL,
    text text NOT NULL,
    sender text NOT NULL,
    event_id text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT public.fased_now(),
    PRIMARY KEY (namespace, run_id, step, ordinal)
);
CREATE UNIQUE INDEX transcript_key_sequence
    ON executor.transcript (namespace, session_key, sequence);
CREATE INDEX transcript_session_sequence
    ON executor.transcript (namespace, session_key, session_id, sequence);

-- The last place given out in a session's transcript. Its row lock puts appends in order.
CREATE TABLE executor.transcript_counter (
    namespace text NOT NULL,
    session_key text NOT NULL,
    last_sequence bigint NOT NULL,
    PRIMARY KEY (namespace, session_key)
) WITH (fillfactor = 50);

-- Runs that ended without success: their entries show as undelivered. Kept apart from the entries,
-- so that one appended after the end is marked too.
CREATE TABLE executor.undelivered_run (
    namespace text NOT NULL,
    run_id bigint NOT NULL,
    outcome text NOT NULL,
    ended_at timestamptz NOT NULL,
    PRIMARY KEY (namespace, run_id)
);
