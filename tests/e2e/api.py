"""The public API from Python: stubs made from proto/, and a client that is short to write with."""

import collections
import importlib
import pathlib
import sys
import tempfile

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_tools import protoc

ROOT = pathlib.Path(__file__).resolve().parents[2]


def _make_stubs():
    out = tempfile.mkdtemp(prefix="ccoe-stubs-")
    protos = sorted((ROOT / "proto" / "ccoe" / "v1").glob("*.proto"))
    code = protoc.main(["protoc", f"-I{ROOT / 'proto'}", f"-I{_well_known()}", f"--python_out={out}",
                        f"--grpc_python_out={out}", *map(str, protos)])
    assert code == 0, "protoc failed"
    sys.path.insert(0, out)


def _well_known():
    import grpc_tools
    return pathlib.Path(grpc_tools.__file__).parent / "_proto"


_make_stubs()
types = importlib.import_module("ccoe.v1.types_pb2")
generation = importlib.import_module("ccoe.v1.generation_service_pb2")
generation_grpc = importlib.import_module("ccoe.v1.generation_service_pb2_grpc")
catalog = importlib.import_module("ccoe.v1.catalog_service_pb2")
catalog_grpc = importlib.import_module("ccoe.v1.catalog_service_pb2_grpc")

Answer = collections.namedtuple("Answer", "text token_ids started finished")
Failure = collections.namedtuple("Failure", "code reason metadata retry_after_s message trailers")


def request(prompt, max_tokens=16, temperature=0.0, seed=None, **fields):
    """A GenerateRequest that asks for token ids."""
    sampling = generation.SamplingParams(temperature=temperature, seed=seed)
    return generation.GenerateRequest(
        chat=types.Chat(messages=[types.ChatMessage(role=types.ROLE_USER, content=prompt)]),
        sampling=sampling, stop=generation.StopConditions(max_tokens=max_tokens),
        output=generation.OutputOptions(token_ids=True), **fields)


def failure(error):
    """The parts of a failed call, its details decoded."""
    reason, metadata, retry_after_s = None, {}, None
    trailers = dict(error.trailing_metadata() or ())
    details = status_pb2.Status.FromString(trailers.get("grpc-status-details-bin", b""))
    for detail in details.details:
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            assert info.domain == "ccoe"
            reason, metadata = info.reason, dict(info.metadata)
        elif detail.Unpack(retry):
            retry_after_s = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
    return Failure(error.code(), reason, metadata, retry_after_s, error.details(), trailers)


def failure_of(call, *args, **kwargs):
    """The failure that a call ends with."""
    try:
        result = call(*args, **kwargs)
        if hasattr(result, "__next__"):
            collections.deque(result, maxlen=0)
    except grpc.RpcError as error:
        return failure(error)
    raise AssertionError("the call did not fail")


class Client:
    """Speaks to one address; close it, or use it with `with`."""

    def __init__(self, address):
        # No shared connections: tests look at what ending one does.
        self.channel = grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
        self.generation = generation_grpc.GenerationServiceStub(self.channel)
        self.catalog = catalog_grpc.CatalogServiceStub(self.channel)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.channel.close()

    def stream(self, message, timeout=120, **kwargs):
        return self.generation.GenerateStream(message, timeout=timeout, **kwargs)

    def answer(self, message, **kwargs):
        """A whole answer through the stream."""
        return collect(self.stream(message, **kwargs))

    def ready_domains(self):
        """The domains that can answer now; empty while nobody can be asked."""
        try:
            experts = self.catalog.ListExperts(catalog.ListExpertsRequest(), timeout=5).experts
        except grpc.RpcError:
            return set()
        return {expert.domain for expert in experts if expert.state == catalog.EXPERT_STATE_READY}


def collect(events):
    """Checks the order of a stream's events and joins its deltas."""
    text, token_ids, started, finished, steps = "", [], None, None, 0
    for event in events:
        kind = event.WhichOneof("event")
        assert finished is None, f"{kind} after Finished"
        assert (kind == "started") == (started is None), f"{kind} out of order"
        if kind == "started":
            started = event.started
        elif kind == "step_started":
            steps += 1
        elif kind == "delta":
            assert steps > 0, "a Delta before its StepStarted"
            assert event.delta.token_offset == len(token_ids)
            text += event.delta.text
            token_ids += event.delta.token_ids
        else:
            finished = event.finished
    assert finished is not None, "the stream ended without Finished"
    return Answer(text, token_ids, started, finished)
