"""Alembic's entry: runs the numbered migrations on the connection that ``warehouse.migrate`` hands over."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    version_table="schema_version",
    version_table_schema="otc",
    transaction_per_migration=False,
)
with context.begin_transaction():
    context.run_migrations()
