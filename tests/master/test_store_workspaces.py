"""Workspaces and projects of a former release are brought over."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, select, text

import shipway_master.store
from shipway_master.store.database import opened
from shipway_master.store.workspaces import ProjectRow, WorkspaceRow

NAMES = ("Größe", "p-1")
ABSENT: dict[str, dict[str, object]] = {
    "users": {"remote": False, "display_name": "", "modified_at": 0},
    "workspaces": {"archived": False, "immutable": True},
    "projects": {"archived": False, "immutable": False},
}


async def test_those_of_a_former_release_get_keys_and_names_for_comparison(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    config = Config()
    scripts = Path(shipway_master.store.__file__).parent / "migrations"
    config.set_main_option("script_location", str(scripts))
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0007")
        for table, rows in (
            ("users", [{"id": 1, "username": "admin", "admin": True, "active": True}]),
            ("workspaces", [{"name": "Größe", "user_id": 1}]),
            ("projects", [{"name": name, "workspace_id": 1, "user_id": 1} for name in NAMES]),
        ):
            for row in rows:
                values = {**ABSENT[table], **row}
                names = ", ".join(values)
                marks = ", ".join(f":{name}" for name in values)
                connection.execute(text(f"INSERT INTO {table} ({names}) VALUES ({marks})"), values)
    engine.dispose()

    async with opened(f"sqlite:///{path}") as database, database.reading() as session:
        [workspace] = (await session.scalars(select(WorkspaceRow))).all()
        projects = (await session.scalars(select(ProjectRow).order_by(ProjectRow.id))).all()

    assert (workspace.name, workspace.folded_name) == ("Größe", "grösse")
    assert [project.key for project in projects] == ["GRS1", "P12"]
    assert [project.notes for project in projects] == [[], []]
