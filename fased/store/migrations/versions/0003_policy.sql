CREATE SCHEMA policy;

CREATE TABLE policy.agent (
    namespace text NOT NULL,
    id text NOT NULL,
    position bigint GENERATED ALWAYS AS IDENTITY,
    revision bigint NOT NULL,
    definition jsonb NOT NULL,
    managed_by text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT public.fased_now(),
    updated_at timestamptz NOT NULL DEFAULT public.fased_now(),
    PRIMARY KEY (namespace, id)
);

-- Revisions are immutable, so that a run's decision can be read back as it was made.
CREATE TABLE policy.agent_revision (
    namespace text NOT NULL,
    id text NOT NULL,
    revision bigint NOT NULL,
    definition jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT public.fased_now(),
    PRIMARY KEY (namespace, id, revision)
);

CREATE TABLE policy.model_provider (
    namespace text NOT NULL,
    id text COLLATE "C" NOT NULL,
    definition jsonb NOT NULL,
    managed_by text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT public.fased_now(),
    updated_at timestamptz NOT NULL DEFAULT public.fased_now(),
    PRIMARY KEY (namespace, id)
);

CREATE TABLE policy.namespace_default (
    namespace text PRIMARY KEY,
    model text NOT NULL DEFAULT '',
    managed_by text NOT NULL DEFAULT ''
);

-- The answers given to request ids, so that a repeated request answers alike.
CREATE TABLE policy.request (
    namespace text NOT NULL,
    request_id uuid NOT NULL,
    resource text NOT NULL,
    at timestamptz NOT NULL DEFAULT public.fased_now(),
    PRIMARY KEY (namespace, request_id)
);

CREATE TABLE policy.token (
    namespace text NOT NULL,
    id text NOT NULL,
    secret_hash bytea NOT NULL UNIQUE,
    role smallint NOT NULL,
    namespaces text[] NOT NULL,
    created_at timestamptz NOT NULL DEFAULT public.fased_now(),
    expires_at timestamptz,
    revoked_at timestamptz,
    PRIMARY KEY (namespace, id)
);

-- Who defines rows from elsewhere, by kind of row, and the generation that was applied last.
CREATE TABLE policy.owner (
    kind text NOT NULL,
    namespace text COLLATE "C" NOT NULL,
    managed_by text COLLATE "C" NOT NULL,
    generation bigint NOT NULL,
    PRIMARY KEY (kind, namespace, managed_by)
);
