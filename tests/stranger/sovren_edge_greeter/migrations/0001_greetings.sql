CREATE TABLE greetings (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    text text NOT NULL,
    said_at timestamptz NOT NULL
);
