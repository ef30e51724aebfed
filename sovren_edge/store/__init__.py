"""PostgreSQL: the connection pool and the migrations."""
