"""${message}."""

from eventlog.migration import run_scripts

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade() -> None:
    """Run the SQL beside this file that is written for the database at hand."""
    run_scripts(revision)
