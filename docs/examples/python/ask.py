#!/usr/bin/env python3
"""Lists a server's experts and streams one answer, with the project's own client.

    python3 -m venv venv && venv/bin/pip install ./proto/clients/python
    venv/bin/python docs/examples/python/ask.py localhost:50051 "Why is the sky blue?" [DOMAIN]
"""

import sys
import uuid

from ccoe.v1.catalog_service_pb2 import ExpertState
from ccoe.v1.generation_service_pb2 import FinishReason
from ccoe_client import CcoeError, Client, Delta, Finished, Started


def list_experts(client):
    for expert in client.experts(timeout=10):
        state = ExpertState.Name(expert.state).removeprefix("EXPERT_STATE_")
        print(f"{expert.name} {expert.version} answers {expert.domain}: {state}")


def stream_answer(client, prompt, domain, request_id):
    """The client itself tries again what may be tried again: at most `retries` times, after the
    delay that the server names, and all within `timeout` seconds."""
    events = client.stream(prompt, domain=domain, temperature=0, max_tokens=32,
                           request_id=request_id, timeout=60)
    for event in events:  # those that a newer server adds are left out
        if isinstance(event, Started):
            print(f"[{event.route.domain}]")
        elif isinstance(event, Delta):
            print(event.text, end="", flush=True)
        elif isinstance(event, Finished):
            reason = FinishReason.Name(event.reason).removeprefix("FINISH_REASON_")
            print(f"\n[{event.usage.completion_tokens} tokens, {reason}, {request_id}]")


def main(address, prompt, domain=None):
    with Client(address, retries=2) as client:
        try:
            list_experts(client)
            stream_answer(client, prompt, domain, f"example-{uuid.uuid4()}")
        except CcoeError as error:
            # Branch on code and reason; the message is for people and may change.
            delay = "" if error.retry_after is None else f", again in {error.retry_after:g} s"
            print(f"{error.code.name} {error.reason}: {error.message}{delay} ({error.request_id})",
                  file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit("usage: ask.py ADDRESS PROMPT [DOMAIN]")
    sys.exit(main(*sys.argv[1:]))
