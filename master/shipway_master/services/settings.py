"""What pages remember for their users."""

from __future__ import annotations

from sqlalchemy import delete, select

from shipway_master.errors import InvalidArgument
from shipway_master.rpc import Call
from shipway_master.store.database import Database
from shipway_master.store.users import UserSettingRow
from shipway_proto.determined.api.v1.user_pb2 import (
    GetUserSettingRequest,
    GetUserSettingResponse,
    PostUserSettingRequest,
    PostUserSettingResponse,
    ResetUserSettingRequest,
    ResetUserSettingResponse,
)
from shipway_proto.determined.user.v1.user_pb2 import UserWebSetting

_MOST_SETTINGS = 10_000
_LONGEST_VALUE = 1_000_000
"""In characters."""


class UserSettingService:
    """The RPCs of the settings; everyone has his own."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def GetUserSetting(
        self, request: GetUserSettingRequest, call: Call
    ) -> GetUserSettingResponse:
        """Read all settings of whoever asks."""
        statement = (
            select(UserSettingRow)
            .where(UserSettingRow.user_id == call.principal.user_id)
            .order_by(UserSettingRow.storage_path, UserSettingRow.key)
        )
        async with self._database.reading() as session:
            rows = await session.scalars(statement)
            settings = [
                UserWebSetting(key=row.key, storage_path=row.storage_path, value=row.value)
                for row in rows
            ]
        return GetUserSettingResponse(settings=settings)

    async def PostUserSetting(
        self, request: PostUserSettingRequest, call: Call
    ) -> PostUserSettingResponse:
        """Add settings, or replace those with the same key and path."""
        user_id = call.principal.user_id
        for setting in request.settings:
            if not setting.key:
                raise InvalidArgument("a setting needs a key")
            if len(setting.value) > _LONGEST_VALUE:
                raise InvalidArgument(
                    f"setting {setting.key!r} is longer than {_LONGEST_VALUE} characters"
                )
        of_user = select(UserSettingRow).where(UserSettingRow.user_id == user_id)
        async with self._database.writing() as session:
            known = {(row.storage_path, row.key): row for row in await session.scalars(of_user)}
            for setting in request.settings:
                place = setting.storage_path, setting.key
                if place not in known:
                    known[place] = UserSettingRow(
                        user_id=user_id, storage_path=setting.storage_path, key=setting.key
                    )
                    session.add(known[place])
                known[place].value = setting.value
            if len(known) > _MOST_SETTINGS:
                raise InvalidArgument(f"a user has at most {_MOST_SETTINGS} settings; reset them")
        return PostUserSettingResponse()

    async def ResetUserSetting(
        self, request: ResetUserSettingRequest, call: Call
    ) -> ResetUserSettingResponse:
        """Forget all settings of whoever asks."""
        of_user = UserSettingRow.user_id == call.principal.user_id
        async with self._database.writing() as session:
            await session.execute(delete(UserSettingRow).where(of_user))
        return ResetUserSettingResponse()
