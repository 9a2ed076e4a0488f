"""Configurations of experiments that there are: read back, and changed to go on otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from shipway_common.settings import Problem
from shipway_master.experiments.config.draft import Draft, read_part
from shipway_master.experiments.config.merge import merge_parts
from shipway_master.experiments.config.model import ExperimentConfig, Part
from shipway_master.experiments.config.problems import BadExperimentConfig
from shipway_master.experiments.config.reading import read_mapping
from shipway_master.experiments.config.whole import build_whole

_FIXED: Final = {
    "project": "it is changed by `det experiment move`",
    "workspace": "it is changed by `det experiment move`",
}


def load_experiment_config(plain: Mapping[str, Any]) -> ExperimentConfig:
    """Read back what `ExperimentConfig.to_plain` wrote, secrets revealed.

    Raises:
        BadExperimentConfig: It is no such thing.
    """
    return build_whole(_load(plain), name_source=lambda _: "", seed=0, priority=None)


def override(
    plain: Mapping[str, Any], text: str, *, govern: Callable[[Draft], Draft] | None = None
) -> ExperimentConfig:
    """Put what a user sent over a stored configuration, for an experiment that goes on.

    Args:
        plain: What `ExperimentConfig.to_plain` wrote, secrets revealed.
        text: YAML; empty changes nothing.
        govern: Puts policies over what comes of it, the searcher excepted.

    Raises:
        BadExperimentConfig: Something in it cannot be, or may not be changed.
    """
    raw = read_mapping(text, name="override config") if text.strip() else {}
    low = _load(plain)
    problems = [
        Problem(f"override config: {key}", f"it cannot be changed here; {why}")
        for key, why in _FIXED.items()
        if key in raw
    ]
    searcher = low.searcher.get("name")
    if raw and searcher != "single":
        text = (
            f"only experiments with the searcher single can go on changed; this one has {searcher}"
        )
        problems.append(Problem("override config", text))
    part = read_part(raw, problems, source="override config")
    if part.searcher.get("name", searcher) != searcher:
        text = f"it cannot be changed; it is {searcher}"
        problems.append(Problem("override config: searcher.name", text))
    if problems:
        raise BadExperimentConfig(problems)
    merged = merge_parts(part, low)
    if govern is not None:
        governed = govern(Draft(merged, {"override config": raw})).part
        merged = governed.model_copy(update={"searcher": merged.searcher})
    return build_whole(merged, name_source=lambda _: "", seed=0, priority=None)


def _load(plain: Mapping[str, Any]) -> Part:
    problems: list[Problem] = []
    part = read_part(read_mapping(plain, name="stored config"), problems, source="stored config")
    if problems:
        raise BadExperimentConfig(problems)
    return part
