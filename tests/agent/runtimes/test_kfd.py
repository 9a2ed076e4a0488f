"""The kernel's list of AMD compute nodes, in the form of Linux 6.8 on an MI300A in mode TPX."""

from __future__ import annotations

from pathlib import Path

import pytest

from shipway_agent.errors import SpecUnsupported
from shipway_agent.runtimes.devices import rocm_nodes
from shipway_agent.runtimes.kfd import find_render_node
from shipway_agent.runtimes.spec import Gpu

CPU = "cpu_cores_count 24\nsimd_count 0\nlocation_id 0\ndomain 0\ndrm_render_minor 0\n"


def gpu(place: int, minor: int, domain: int = 0) -> str:
    return (
        f"cpu_cores_count 0\nsimd_count 304\nlocation_id {place}\ndomain {domain}\n"
        f"drm_render_minor {minor}\nunique_id 17338964563219117575\n"
    )


@pytest.fixture
def host(tmp_path: Path) -> Path:
    card = 0x01 << 8
    nodes = [CPU, gpu(card, 128), gpu(1 << 28 | card, 129), gpu(2 << 28 | card, 130)]
    for number, text in enumerate([*nodes, gpu(0xC1 << 8 | 1, 131, domain=1)]):
        folder = tmp_path / f"sys/class/kfd/kfd/topology/nodes/{number}"
        folder.mkdir(parents=True)
        (folder / "properties").write_text(text)
    (tmp_path / "dev/dri").mkdir(parents=True)
    for minor in (128, 129, 130, 131):
        (tmp_path / f"dev/dri/renderD{minor}").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("bus", "node"),
    [
        ("0000:01:00.0", "renderD128"),
        ("0000:01:00.1", "renderD129"),
        ("0000:01:00.2", "renderD130"),
        ("0001:c1:00.1", "renderD131"),
        ("0000:01:00.3", None),
        ("0000:c1:00.1", None),
        ("0000:00:00.0", None),
        ("nonsense", None),
    ],
)
def test_a_partition_is_found_by_its_number(host: Path, bus: str, node: str | None) -> None:
    found = find_render_node(bus, dev=host / "dev", sys=host / "sys")
    assert found == (None if node is None else f"{host}/dev/dri/{node}")


def test_a_partition_gets_its_own_node_and_no_other(host: Path) -> None:
    part = Gpu(uuid="0xf0@0000:01:00.2", vendor="rocm", pci_bus="0000:01:00.2")
    nodes = rocm_nodes([part], host / "dev", host / "sys")
    assert nodes == [f"{host}/dev/kfd", f"{host}/dev/dri/renderD130"]
    (host / "dev/dri/renderD130").unlink()
    with pytest.raises(SpecUnsupported, match=r"pci-0000:01:00\.2-card"):
        rocm_nodes([part], host / "dev", host / "sys")
