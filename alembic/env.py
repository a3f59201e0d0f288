"""Where migrations run: in one transaction, under a lock of their own, so that several at once wait for each other."""

from alembic import context

from eventlog.database import Database
from eventlog.migration import run_offline, run_online
from projections.tables import further

database = context.config.attributes.get("database") or Database(context.get_x_argument(as_dictionary=True)["url"])
if context.is_offline_mode():
    run_offline(context, database, further(database.dialect))
else:
    run_online(context, database, further(database.dialect))
