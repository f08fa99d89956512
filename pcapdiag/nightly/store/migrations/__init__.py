"""How the tables of the store came to be, step by step; Alembic applies what an older store lacks."""
