"""Whatever is made up from the description of the API, whole or broken, is answered as it describes: no failure, no status, code, media
type, head or body that is not in it, nothing rejected as malformed that is of its schema, and, where no field of a request is concerned, nothing accepted that is not.

`make fuzz-api` does the same for longer, and differently each time."""

import os
from base64 import b64encode
from urllib.parse import quote

import bodies
import hypothesis
import pytest
import requests
import schemathesis
from described import resolve
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance
from served import ROOT, Served, install

SAFETENSORS = "application/vnd.restain.safetensors"
# Requests made up for each operation; a seed of one's own makes each run another.
EXAMPLES = int(os.environ.get("RESTAIN_FUZZ_EXAMPLES", "100"))
SEED = os.environ.get("RESTAIN_FUZZ_SEED")
# Said of bodies with pictures in them, when one is to be shown.
pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")

for name, strategy in {SAFETENSORS: bodies.tensors, "image/*": bodies.pictures}.items():
    schemathesis.openapi.media_type(name, strategy)
schemathesis.openapi.format("binary", bodies.pictures)
schemathesis.openapi.format("byte", bodies.pictures.map(lambda picture: b64encode(picture).decode()))


@schemathesis.check
def code_is_described(ctx, response, case):
    """A problem's code is one of those that stand with its status, and a deadline passes only where the caller set one."""
    if response.status_code < 400:
        return
    responses = resolve(case.operation.schema.raw_schema, case.operation.definition.raw)["responses"]
    described = resolve(case.operation.schema.raw_schema, responses[str(response.status_code)])
    code = response.json()["code"]
    assert code in described["content"]["application/problem+json"]["examples"], f"{code} is not described"
    if code == "deadline_exceeded":
        sent = response.request
        assert "timeout_ms" in f"{sent.url}{sent.body}", "nobody asked for less time"


@pytest.fixture
def fuzzed(tmp_path_factory):
    """A server for one test: what is added, loaded and unloaded there is nobody else's. Says what became of the requests."""
    folder = tmp_path_factory.mktemp("fuzzed")
    for version in ("1", "2"):
        install(folder / "models", "demo", version)
    server = Served(folder, models=folder / "models")
    yield server
    print("\n".join(line for line in requests.get(f"{server.url}/metrics", timeout=60).text.splitlines() if "requests_total{" in line))
    assert server.process.poll() is None, "it still runs"
    server.kill()
    log = (folder / "log").read_text()
    assert "panicked" not in log and "a request failed inside the server" not in log, log[-4000:]


CONFIG = SchemathesisConfig.from_dict(
    {
        "seed": int(SEED or 1),
        "request-timeout": 60,
        "generation": {"max-examples": EXAMPLES, "deterministic": not SEED, "database": "none"},
        "checks": {
            # 504 is what a timeout_ms of 1 asks for; `code_is_described` looks whose it was.
            "not_a_server_error": {"expected-statuses": ["2xx", "4xx", "504"]},
            # What is of its schema is never malformed; that it names no domain of this bank, say, no schema can tell.
            "positive_data_acceptance": {"expected-statuses": ["2xx", "404", "406", "409", "413", "422", "429", "504"]},
            "negative_data_rejection": {"expected-statuses": ["400", "404", "405", "406", "409", "413", "415", "422", "429"]},
            # Removing what nobody added and loading what is loaded are no faults here.
            "use_after_free": {"enabled": False},
            "ensure_resource_availability": {"enabled": False},
        },
    }
)
DESCRIBED = schemathesis.openapi.from_path(ROOT / "openapi.yaml", config=CONFIG)


SETTINGS = hypothesis.settings(suppress_health_check=list(hypothesis.HealthCheck), deadline=None, database=None)


# Their bodies hold tiles, of which one may be the body itself.
OF_TILES = ("/v1/augment", "/v1/encode", "/v1/slides")


@DESCRIBED.parametrize()
@SETTINGS
def test_whatever_is_sent_is_answered_as_described(case, fuzzed):
    drop_query(case)
    case.call_and_validate(base_url=fuzzed.url, additional_checks=[code_is_described], excluded_checks=not_for(case))


def drop_query(case):
    """The query string goes with pictures: other bodies hold the same as JSON."""
    if case.meta.generation.mode.is_positive and case.operation.path in OF_TILES and case.media_type != "image/*":
        case.query = {name: value for name, value in case.query.items() if name == "sheet" and case.operation.path == "/v1/augment"}


def not_for(case):
    """What a tensor must be to be accepted stands in prose. The fields of a request are read from text as well as from their
    types, in a form, in a query string and in JSON; the schema says how they are best written."""
    of_tensors = [positive_data_acceptance] if case.media_type == SAFETENSORS else []
    of_fields = case.operation.path in OF_TILES or case.media_type == "multipart/form-data"
    return of_tensors + [negative_data_rejection] * of_fields


def test_operations_one_after_the_other_are_answered_as_described(fuzzed):
    class Machine(DESCRIBED.as_state_machine()):
        def setup(self):
            # Each round finds the server as the one before it did: what was made up can be made up again.
            super().setup()
            reset(fuzzed)

        def before_call(self, case):
            drop_query(case)

        def get_call_kwargs(self, case):
            return {"base_url": fuzzed.url}

        def validate_response(self, response, case, additional_checks=None, **kwargs):
            case.validate_response(response, additional_checks=[code_is_described], excluded_checks=not_for(case))

    Machine.run(settings=hypothesis.settings(SETTINGS, max_examples=max(EXAMPLES // 4, 1), stateful_step_count=8, derandomize=not SEED))


def reset(server):
    for version in ("1", "2"):
        loaded = requests.post(f"{server.url}/v1/models/demo/load", json={"version": version, "default": version == "2"}, timeout=60)
        assert loaded.status_code == 200, loaded.text
        for domain in requests.get(f"{server.url}/v1/styles", params={"model": f"demo/{version}"}, timeout=60).json()["domains"]:
            if domain["origin"] == "added":
                gone = requests.delete(f"{server.url}/v1/styles/{quote(domain['domain'])}", params={"model": f"demo/{version}"}, timeout=60)
                assert gone.status_code == 204, gone.text


@pytest.mark.parametrize(("kind", "made_up"), [(SAFETENSORS, bodies.tensors), ("image/png", bodies.pictures)])
def test_what_is_made_up_gets_behind_the_first_parse(server, kind, made_up):
    """Were everything refused at its first byte, nothing behind it would be tested."""

    def is_taken(body):
        return requests.post(f"{server.url}/v1/augment", data=body, headers={"content-type": kind}, timeout=60).status_code == 200

    assert hypothesis.find(made_up, is_taken, settings=hypothesis.settings(SETTINGS, derandomize=True, phases=[hypothesis.Phase.generate]))
