CREATE TABLE plans (
  name TEXT PRIMARY KEY,
  cpu_ms INTEGER NOT NULL,      -- CPU time per request
  subrequests INTEGER NOT NULL, -- requests that a request may make
  outside INTEGER NOT NULL      -- whether it may reach the internet
);
INSERT INTO plans VALUES ('free', 20, 10, 0), ('pro', 200, 100, 1);

CREATE TABLE tenants (
  name TEXT PRIMARY KEY,
  plan TEXT NOT NULL REFERENCES plans (name)
);

-- What tenants asked of the outside.
CREATE TABLE outside (
  at INTEGER NOT NULL, -- milliseconds
  tenant TEXT NOT NULL,
  url TEXT NOT NULL,
  allowed INTEGER NOT NULL
);
CREATE INDEX outside_at ON outside (at);
