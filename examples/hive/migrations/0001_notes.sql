CREATE TABLE notes (
  id INTEGER PRIMARY KEY,
  text TEXT NOT NULL CHECK (length(text) BETWEEN 1 AND 500),
  created INTEGER NOT NULL
);
CREATE INDEX notes_created ON notes (created DESC);
