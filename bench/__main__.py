"""Every measurement that takes seconds; the README beside this names those that take minutes, and run by themselves."""

from __future__ import annotations

from bench import append, classify, group_commit, help, walk  # noqa: A004 - named for the option that it measures

if __name__ == "__main__":
    for measurement in (append, group_commit, walk, classify, help):
        measurement.main()
