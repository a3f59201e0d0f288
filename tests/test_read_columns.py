"""Which columns of a table a query of the users' is found to read."""

import pytest

from enrichlog.read_columns import reads

COLUMNS = ("id", "title", "body", "done", "note")


@pytest.mark.parametrize(
    ("query", "surely", "perhaps"),
    [
        ("SELECT id, title, body AS description FROM jobs", "id title body", ""),
        ('SELECT p.id, p."title", x.body AS description FROM own.jobs AS p JOIN x ON x.id = p.id', "id title", ""),
        ("SELECT jobs.id, title, x.body FROM jobs LEFT JOIN x ON x.id = jobs.id", "id", "title"),
        ("SELECT p.* FROM x p WHERE p.id NOT IN (SELECT e.id FROM jobs e WHERE e.done IS NULL)", "id done", ""),
        ("SELECT * FROM jobs", "id title", ""),
        ("SELECT x.id, x.title, 'body' AS note FROM x -- FROM jobs", "", ""),
        ("SELECT id, name AS title, 'jobs.body' AS description FROM jobs /* note */ WHERE JOBS.done", "id done", ""),
    ],
)  # fmt: skip
def test_what_a_query_reads_of_a_table_is_found_in_its_text(query: str, surely: str, perhaps: str) -> None:
    found = reads(query, "jobs", COLUMNS)
    assert (found.surely, found.perhaps) == (frozenset(surely.split()), frozenset(perhaps.split()))
