CREATE TABLE request (
  id BLOB PRIMARY KEY,              -- UUIDv7 of the gateway
  started_at INTEGER NOT NULL,      -- microseconds since 1970, UTC
  duration_us INTEGER,
  ttft_us INTEGER,
  caller TEXT NOT NULL,
  dialect TEXT NOT NULL,
  model TEXT NOT NULL,              -- as configured
  requested TEXT NOT NULL,          -- as the caller named it
  target TEXT NOT NULL,             -- provider/model
  attempts INTEGER NOT NULL,
  outcome TEXT NOT NULL,            -- `lost`: the process ended before the request did
  status INTEGER,
  error TEXT,
  streamed INTEGER NOT NULL,
  input INTEGER NOT NULL,
  cache_read INTEGER NOT NULL,
  cache_write INTEGER NOT NULL,
  output INTEGER NOT NULL,
  reasoning INTEGER NOT NULL,
  estimated INTEGER NOT NULL,
  charged INTEGER NOT NULL,
  cost_nano INTEGER,                -- nano-dollars; NULL: no price is known
  request_id TEXT NOT NULL,         -- as in the access log
  upstream_id TEXT
) WITHOUT ROWID;
CREATE INDEX request_request_id ON request (request_id);
CREATE TABLE open_request (
  id BLOB PRIMARY KEY,
  record TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE aggregate (
  id BLOB PRIMARY KEY,
  record TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE rollup (
  quarter INTEGER NOT NULL,         -- quarter hours since 1970, UTC
  caller TEXT NOT NULL,
  model TEXT NOT NULL,
  target TEXT NOT NULL,
  outcome TEXT NOT NULL,
  requests INTEGER NOT NULL,
  unpriced INTEGER NOT NULL,
  input INTEGER NOT NULL,
  cache_read INTEGER NOT NULL,
  cache_write INTEGER NOT NULL,
  output INTEGER NOT NULL,
  reasoning INTEGER NOT NULL,
  cost_nano INTEGER NOT NULL,
  PRIMARY KEY (quarter, caller, model, target, outcome)
) WITHOUT ROWID;
CREATE TABLE spool_cursor (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  segment INTEGER NOT NULL,
  offset INTEGER NOT NULL
);
