"""Settings that pages keep for their users."""

from __future__ import annotations

from tests.master.running import MasterUnderTest


async def test_everyone_has_his_own_settings(master: MasterUnderTest) -> None:
    first = {"key": "theme", "storagePath": "page", "value": '"dark"'}
    second = {"key": "theme", "storagePath": "", "value": "1"}

    posted = await master.call("POST", "/users/setting", {"settings": [first, second]})
    await master.call("POST", "/users/setting", {"settings": [{**first, "value": '"light"'}]})

    assert posted.json == {}
    assert (await master.call("GET", "/users/setting")).json["settings"] == [
        second,
        {**first, "value": '"light"'},
    ]
    assert (await master.call("GET", "/users/setting", token="user")).json["settings"] == []
    assert (await master.call("POST", "/users/setting/reset")).json == {}
    assert (await master.call("GET", "/users/setting")).json["settings"] == []


async def test_a_setting_needs_a_key(master: MasterUnderTest) -> None:
    body = {"settings": [{"key": "a", "value": "1"}, {"key": "", "value": "1"}]}

    assert (await master.call("POST", "/users/setting", body)).status == 400
    assert (await master.call("GET", "/users/setting")).json["settings"] == []
