"""Migrations: up, down, twice, and from two processes at once."""

from __future__ import annotations

import threading

import psycopg

from otc_assets.warehouse.migrate import migrate, newest_version


def tables(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = 'otc'")
        return {str(name) for (name,) in rows}


def test_an_empty_database_gets_every_table_and_a_second_time_changes_nothing(empty_database: str) -> None:
    assert migrate(empty_database)[:2] == (None, newest_version())
    first = tables(empty_database)
    assert {"publication", "venue_volume", "symbol_rolling", "market_concentration", "gap"} <= first
    assert migrate(empty_database)[:2] == (newest_version(), newest_version())
    assert tables(empty_database) == first


def test_down_leaves_nothing_of_ours_and_up_again_brings_all_back(empty_database: str) -> None:
    migrate(empty_database)
    everything = tables(empty_database)
    assert migrate(empty_database, "base")[:2] == (newest_version(), None)
    assert tables(empty_database) == {"schema_version"}
    migrate(empty_database, "020")
    assert "venue_volume" in tables(empty_database)
    assert "symbol_rolling" not in tables(empty_database)
    migrate(empty_database)
    assert tables(empty_database) == everything


def test_two_migrations_at_once_do_the_work_once(empty_database: str) -> None:
    """Two pods starting together once both created the tables, and one died."""
    results: list[tuple[str | None, str | None]] = []
    errors: list[Exception] = []

    def work() -> None:
        try:
            results.append(migrate(empty_database)[:2])
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    newest = newest_version()
    assert sorted(results, key=str) == sorted([(None, newest), (newest, newest), (newest, newest)], key=str)
