"""The log and its read models."""

from eventlog.migration import run_scripts

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Run the SQL beside this file that is written for the database at hand."""
    run_scripts(revision)
