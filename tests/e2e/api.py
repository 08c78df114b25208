"""The public API as the tests use it: the project's Python client, without retries, and what they
ask for again and again."""

import collections

import ccoe_client
import grpc
from ccoe.v1 import catalog_service_pb2 as catalog
from ccoe.v1 import generation_service_pb2 as generation
from ccoe.v1 import types_pb2 as types
from ccoe_client import CcoeError, Delta, Finished, Started, StepReport, StepStarted

Answer = collections.namedtuple("Answer", "text token_ids started finished")


def request(prompt, max_tokens=16, temperature=0.0, **options):
    """A GenerateRequest that asks for token ids."""
    return ccoe_client.generate_request(prompt, max_tokens=max_tokens, temperature=temperature,
                                        token_ids=True, **options)


def failure_of(call, *args, **kwargs):
    """The CcoeError that a call ends with, one of the client's or one of its channel's."""
    try:
        result = call(*args, **kwargs)
        if hasattr(result, "__next__"):
            collections.deque(result, maxlen=0)
    except CcoeError as error:
        return error
    except grpc.RpcError as error:
        return CcoeError.of(error)
    raise AssertionError("the call did not fail")


class Client(ccoe_client.Client):
    def __init__(self, address, api_key=None, credentials=None):
        # No shared connections: tests look at what ending one does.
        super().__init__(address, timeout=120, retries=0, api_key=api_key, credentials=credentials,
                         options=[("grpc.use_local_subchannel_pool", 1)])

    def answer(self, message, **options):
        """A whole answer through the stream."""
        return collect(self.stream(message, **options))

    def ready_domains(self):
        """The domains that can answer now; empty while nobody can be asked."""
        try:
            experts = self.experts(timeout=5)
        except CcoeError:
            return set()
        return {expert.domain for expert in experts if expert.state == catalog.EXPERT_STATE_READY}


def collect(events):
    """Checks the order of a stream's events and joins its deltas."""
    text, token_ids, started, finished, steps = "", [], None, None, 0
    for event in events:
        kind = type(event).__name__
        assert finished is None, f"{kind} after Finished"
        assert isinstance(event, Started) == (started is None), f"{kind} out of order"
        if isinstance(event, Started):
            started = event
        elif isinstance(event, StepStarted):
            steps += 1
        elif isinstance(event, Delta):
            assert steps > 0, "a Delta before its StepStarted"
            assert event.token_offset == len(token_ids)
            text += event.text
            token_ids += event.token_ids
        elif isinstance(event, StepReport):
            assert event.step == steps - 1
        else:
            assert isinstance(event, Finished), kind
            finished = event
    assert finished is not None, "the stream ended without Finished"
    return Answer(text, token_ids, started, finished)
