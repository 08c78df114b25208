"""EleutherAI's lm-evaluation-harness over a running server: log likelihoods by Score, answers by
Generate. `python -m ccoe_eval lm-eval` runs tasks with it; other programs import this module, after
which the model is known by the name "ccoe"."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable

import lm_eval
from ccoe_client import Text
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model
from lm_eval.tasks import TaskManager

from .client import Turn, connect, user

TASKS = Path(__file__).with_name("lm_eval_tasks")


@register_model("ccoe")
class CcoeLM(LM):
    """`domain` answers; "" lets the gate decide. With `chat` a context is a user's message in the
    model's chat template, without it a plain text."""

    def __init__(
        self,
        server: str = "127.0.0.1:50051",
        domain: str = "general",
        chat: bool | str = True,
        streams: int | str = 8,
        max_gen_toks: int | str = 256,
        **_: Any,
    ):
        super().__init__()
        self._client = connect(server)
        self._domain = domain or None
        self._chat = str(chat).lower() in ("true", "1", "yes")
        self._streams, self._max_gen_toks = int(streams), int(max_gen_toks)

    def _prompt(self, context: str) -> list[Turn] | Text:
        return user(context) if self._chat else Text(text=context)

    def _each(self, ask: Callable[..., Any], requests: list[Instance], method: str) -> list[Any]:
        def answer(request: Instance) -> Any:
            result = ask(*request.args)
            self.cache_hook.add_partial(method, request.args, result)
            return result

        with ThreadPoolExecutor(self._streams) as pool:
            return list(pool.map(answer, requests))

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """The second of each pair: whether every token of the continuation is the likeliest one."""

        def ask(context: str, continuation: str) -> tuple[float, bool]:
            if not context:
                return self._unconditional(continuation)
            return self._score(self._prompt(context), continuation)

        return self._each(ask, requests, "loglikelihood")

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """Of plain texts; one that does not fit the model's context is refused by the server."""

        def ask(text: str) -> float:
            return self._unconditional(text)[0]

        return self._each(ask, requests, "loglikelihood_rolling")

    def _unconditional(self, text: str) -> tuple[float, bool]:
        """Of all tokens but the first, which stands after nothing."""
        ids = [token.id for token in self._client.tokenize(Text(text=text))]
        if len(ids) < 2:
            return 0.0, True
        return self._score(ids[:1], ids[1:])

    def _score(self, prompt: Any, continuation: Any) -> tuple[float, bool]:
        scored = self._client.score(prompt, continuation, domain=self._domain, top_logprobs=1)
        greedy = all(token.id == token.top[0].id for token in scored.tokens)
        return scored.total_logprob, greedy

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """Greedy, whatever the task's sampling arguments say."""

        def ask(context: str, arguments: dict[str, Any]) -> str:
            until = arguments.get("until") or []
            stops = [until] if isinstance(until, str) else list(until)
            most = int(arguments.get("max_gen_toks", self._max_gen_toks))
            answer = self._client.generate(
                self._prompt(context),
                domain=self._domain,
                max_tokens=most,
                stop_sequences=stops,
                temperature=0.0,
            )
            return answer.text

        return self._each(ask, requests, "generate_until")


def evaluate(model: LM, tasks: list[str], file: Path | None, limit: int | None) -> dict[str, Any]:
    """The harness's results of `tasks`: its own, or those of lm_eval_tasks/, which read `file`, or
    the environment's CCOE_EVAL_FILE when None."""
    if file is not None:
        os.environ["CCOE_EVAL_FILE"] = str(file)
    results = lm_eval.simple_evaluate(
        model=model,
        tasks=tasks,
        limit=limit,
        task_manager=TaskManager(include_path=str(TASKS)),
        bootstrap_iters=1000,
    )
    return {name: results[name] for name in ("results", "n-samples", "versions")}
