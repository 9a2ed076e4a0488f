"""What a hyperparameter search would do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel, TypeAdapter, ValidationError

from shipway_master.errors import InvalidArgument
from shipway_master.experiments.config.problems import BadExperimentConfig, list_problems
from shipway_master.rpc import Call
from shipway_master.searchers.config import AdaptiveAshaConfig, AsyncHalvingConfig, SearcherConfig
from shipway_master.searchers.errors import BadSearch
from shipway_master.searchers.hyperparameters import Hyperparameters
from shipway_master.searchers.numbers import INT32_MAX
from shipway_master.searchers.preview import TrialsOfLength, preview_search
from shipway_master.structs import to_plain, to_struct
from shipway_proto.determined.api.v1.experiment_pb2 import (
    PreviewHPSearchRequest,
    PreviewHPSearchResponse,
)
from shipway_proto.determined.experiment.v1.searcher_pb2 import (
    SearchSummary,
    SearchUnit,
    TrialSummary,
)

_SEARCHER: Final[TypeAdapter[SearcherConfig]] = TypeAdapter(SearcherConfig)


class _Sections(BaseModel):
    """What a preview needs of an experiment configuration; the rest may still be missing."""

    searcher: SearcherConfig
    hyperparameters: Hyperparameters = Hyperparameters({})


class SearchService:
    """The RPC of searches that do not run yet."""

    async def PreviewHPSearch(
        self, request: PreviewHPSearchRequest, call: Call
    ) -> PreviewHPSearchResponse:
        """Count the trials that a configuration would give, by how long they would train."""
        config = to_plain(request.config)
        sections = _parse({key: item for key, item in config.items() if item is not None})
        try:
            trials = preview_search(sections.searcher, sections.hyperparameters)
        except BadSearch as error:
            raise InvalidArgument(f"invalid experiment configuration: {error}") from error
        summary = SearchSummary(trials=[_view(one, sections.searcher) for one in trials])
        to_struct(_SEARCHER.dump_python(sections.searcher, mode="json"), summary.config)
        return PreviewHPSearchResponse(summary=summary)


def _parse(config: Mapping[str, Any]) -> _Sections:
    try:
        return _Sections.model_validate(config)
    except ValidationError as error:
        problems = list_problems(error, config, _Sections)
        raise InvalidArgument(str(BadExperimentConfig(problems))) from error


def _view(trials: TrialsOfLength, config: SearcherConfig) -> TrialSummary:
    if trials.time is None or not isinstance(config, (AsyncHalvingConfig, AdaptiveAshaConfig)):
        return TrialSummary(count=trials.count, unit=SearchUnit(max_length=True))
    # The field is of 32 bits; what is longer is shown as the longest that it can hold.
    value = min(trials.time, INT32_MAX)
    return TrialSummary(count=trials.count, unit=SearchUnit(name=config.time_metric, value=value))
