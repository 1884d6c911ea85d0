"""Requests that Schemathesis makes from the description find no response that the description does not have."""

from __future__ import annotations

import os

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.config import SchemathesisConfig
from starlette.testclient import TestClient

from otc_assets.api.app import make_app
from otc_assets.client import VERBS, Client

#: For each path; `make fuzz-api` sets more.
EXAMPLES = int(os.environ.get("OTC_TEST_API_EXAMPLES", "2"))

#: 422: the values have the form of the description, but name no week, or exclude each other.
CONFIGURATION = {
    "checks": {
        "positive_data_acceptance": {"expected-statuses": ["2xx", "404", "409", "422"]},
        "negative_data_rejection": {"expected-statuses": ["400", "404", "406", "422"]},
    }
}


@pytest.fixture(scope="module")
def description(reader: Client) -> schemathesis.schemas.BaseSchema:
    """The API with its description."""
    config = SchemathesisConfig.from_dict(CONFIGURATION)
    return schemathesis.openapi.from_asgi("/openapi.json", make_app(reader), config=config)


@pytest.mark.parametrize("mode", schemathesis.GenerationMode)
def test_every_response_is_one_of_the_description(
    description: schemathesis.schemas.BaseSchema, mode: schemathesis.GenerationMode
) -> None:
    found = [each.ok() for each in description.get_all_operations()]
    assert len(found) > len(VERBS)
    for operation in found:

        @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(generation_mode=mode))
        def request(case: schemathesis.Case) -> None:
            case.call_and_validate()

        try:
            request()
        except Unsatisfiable:  # a path without parameters has no invalid ones
            assert mode is schemathesis.GenerationMode.NEGATIVE


def test_every_verb_has_a_path_with_its_columns_and_an_example_that_they_describe(api: TestClient) -> None:
    found = api.get("/openapi.json").json()
    for verb in VERBS.values():
        answer = found["paths"][f"/v1/{verb.name}"]["get"]["responses"]["200"]["content"]["application/json"]
        row = answer["schema"]["properties"]["data"]["items"]["properties"]
        assert list(row) == list(verb.table.schema)
        assert set(answer["example"]["data"][0]) == set(row)
