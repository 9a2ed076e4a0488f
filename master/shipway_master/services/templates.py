"""Templates: parts of configurations under a name, and their place below what a user sends."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from google.protobuf.struct_pb2 import Struct
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from shipway_master.errors import AlreadyExists, InvalidArgument, NotFound
from shipway_master.pages import cut_stored_page
from shipway_master.rpc import Call
from shipway_master.store.database import Database
from shipway_master.store.templates import TemplateRow
from shipway_master.store.workspaces import WorkspaceRow
from shipway_master.structs import to_plain, to_struct
from shipway_master.tasks.merge import merge_configs
from shipway_proto.determined.api.v1.pagination_pb2 import ORDER_BY_DESC
from shipway_proto.determined.api.v1.template_pb2 import (
    DeleteTemplateRequest,
    DeleteTemplateResponse,
    GetTemplateRequest,
    GetTemplateResponse,
    GetTemplatesRequest,
    GetTemplatesResponse,
    PatchTemplateConfigRequest,
    PatchTemplateConfigResponse,
    PatchTemplateNameRequest,
    PatchTemplateNameResponse,
    PostTemplateRequest,
    PostTemplateResponse,
    PutTemplateRequest,
    PutTemplateResponse,
)
from shipway_proto.determined.template.v1.template_pb2 import Template

_DEFAULT_WORKSPACE = 1


class TemplateService:
    """The RPCs of templates; every user may use and change all of them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def GetTemplates(self, request: GetTemplatesRequest, call: Call) -> GetTemplatesResponse:
        """List templates by name."""
        statement = select(TemplateRow)
        if request.workspace_ids:
            statement = statement.where(TemplateRow.workspace_id.in_(request.workspace_ids))
        async with self._database.reading() as session:
            rows = list(await session.scalars(statement))
        wanted = request.name.casefold()
        rows = [row for row in rows if wanted in row.name.casefold()]
        rows.sort(key=lambda row: row.name, reverse=request.order_by == ORDER_BY_DESC)
        page, pagination = cut_stored_page(rows, offset=request.offset, limit=request.limit)
        return GetTemplatesResponse(templates=map(_message, page), pagination=pagination)

    async def GetTemplate(self, request: GetTemplateRequest, call: Call) -> GetTemplateResponse:
        """Find a template by name."""
        async with self._database.reading() as session:
            row = await _get(session, request.template_name)
        return GetTemplateResponse(template=_message(row))

    async def PostTemplate(self, request: PostTemplateRequest, call: Call) -> PostTemplateResponse:
        """Make a template."""
        row = _row(request.template)
        try:
            async with self._database.writing() as session:
                await _require_workspace(session, row.workspace_id)
                session.add(row)
        except IntegrityError as error:
            raise AlreadyExists(f"template '{row.name}' already exists") from error
        return PostTemplateResponse(template=_message(row))

    async def PutTemplate(self, request: PutTemplateRequest, call: Call) -> PutTemplateResponse:
        """Make a template, or replace its configuration; it stays in its workspace then."""
        row = _row(request.template)
        async with self._database.writing() as session:
            known = await session.get(TemplateRow, row.name)
            if known is None:
                await _require_workspace(session, row.workspace_id)
                session.add(row)
            else:
                known.config = row.config
        return PutTemplateResponse(template=_message(known or row))

    async def PatchTemplateConfig(
        self, request: PatchTemplateConfigRequest, call: Call
    ) -> PatchTemplateConfigResponse:
        """Replace a template's configuration as a whole."""
        async with self._database.writing() as session:
            row = await _get(session, request.template_name)
            row.config = _dump(request.config)
        return PatchTemplateConfigResponse(template=_message(row))

    async def PatchTemplateName(
        self, request: PatchTemplateNameRequest, call: Call
    ) -> PatchTemplateNameResponse:
        """Rename a template."""
        _check_name(request.new_name)
        try:
            async with self._database.writing() as session:
                row = await _get(session, request.old_name)
                row.name = request.new_name
        except IntegrityError as error:
            raise AlreadyExists(f"template '{request.new_name}' already exists") from error
        return PatchTemplateNameResponse(template=_message(row))

    async def DeleteTemplate(
        self, request: DeleteTemplateRequest, call: Call
    ) -> DeleteTemplateResponse:
        """Delete a template; what was started with it is not touched."""
        async with self._database.writing() as session:
            await session.delete(await _get(session, request.template_name))
        return DeleteTemplateResponse()


async def complete_config(
    database: Database, template_name: str, config: Mapping[str, Any]
) -> dict[str, Any]:
    """Put *config* over a template's: mappings are joined, of anything else *config*'s stays.

    Args:
        template_name: Empty: there is none.

    Raises:
        NotFound: There is no such template.
    """
    if not template_name:
        return dict(config)
    return merge_configs(await load_template(database, template_name), config)


async def load_template(database: Database, template_name: str) -> dict[str, Any]:
    """Load the configuration of a template.

    Raises:
        NotFound: There is no such template.
    """
    async with database.reading() as session:
        row = await _get(session, template_name)
    config: dict[str, Any] = json.loads(row.config)
    return config


async def _get(session: AsyncSession, name: str) -> TemplateRow:
    row = await session.get(TemplateRow, name)
    if row is None:
        raise NotFound("template", name)
    return row


async def _require_workspace(session: AsyncSession, workspace_id: int) -> None:
    if await session.get(WorkspaceRow, workspace_id) is None:
        raise NotFound("workspace", workspace_id)


def _row(template: Template) -> TemplateRow:
    _check_name(template.name)
    return TemplateRow(
        name=template.name,
        workspace_id=template.workspace_id or _DEFAULT_WORKSPACE,
        config=_dump(template.config),
    )


def _check_name(name: str) -> None:
    if not name or not name.isprintable() or name != name.strip():
        raise InvalidArgument("a template's name has printable characters, no spaces around them")


def _dump(config: Struct) -> str:
    return json.dumps(to_plain(config))


def _message(row: TemplateRow) -> Template:
    return Template(
        name=row.name, workspace_id=row.workspace_id, config=to_struct(json.loads(row.config))
    )
