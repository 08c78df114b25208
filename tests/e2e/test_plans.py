"""Requests that several experts answer: in steps over one context, or for the best answer."""

import json

import api
import grpc
import processes
import prompts
import pytest

SELECT_BEST = api.generation.SELECT_BEST

STEPS = [("sql", prompts.SQL), ("birds", "Which bird would ask that?"),
         ("general", "Say it in one short sentence."), ("sql", "And now only those of this year.")]


def planned(steps, max_tokens=12, **fields):
    """A request whose steps are given, and which has no input besides."""
    return api.request(None, max_tokens=max_tokens, plan=steps, **fields)


def run_steps(events):
    """The text, ids and expert of every step, and the last event."""
    steps, finished = [], None
    for event in events:
        if isinstance(event, api.StepStarted):
            assert event.step == len(steps)
            steps.append({"text": "", "ids": [], "started": event})
        elif isinstance(event, api.Delta):
            assert event.step == len(steps) - 1
            assert event.token_offset == sum(len(step["ids"]) for step in steps)
            steps[-1]["text"] += event.text
            steps[-1]["ids"] += event.token_ids
        elif isinstance(event, api.StepReport):
            assert event.step == len(steps) - 1
            steps[-1]["report"] = event
        elif isinstance(event, api.Finished):
            finished = event
    assert [step["report"] for step in steps if "report" in step] == list(finished.steps)
    for step in steps[1:]:
        assert step["text"].startswith("\n\n")
        step["text"] = step["text"][2:]
    return steps, finished


def conversation(steps, answers):
    """The messages that step len(answers) finds."""
    messages = []
    for (_, instruction), answer in zip(steps, answers + [None]):
        messages.append({"role": "user", "content": instruction})
        if answer is not None:
            messages.append({"role": "assistant", "content": answer})
    return messages


def test_every_step_answers_as_the_conversation_would(client, shared):
    steps, finished = run_steps(client.stream(planned(STEPS)))
    assert [step["started"].domain for step in steps] == [domain for domain, _ in STEPS]
    assert [step["started"].instruction for step in steps] == [text for _, text in STEPS]
    compared = 0
    for index, (domain, _) in enumerate(STEPS):
        before_it = conversation(STEPS[:index + 1], [step["text"] for step in steps[:index]])
        alone = client.answer(api.request(before_it, max_tokens=12, domain=domain))
        # An answer that was cut within a word, or ends in blanks, is tokenized otherwise in a
        # conversation: then the tokens cannot be compared.
        report = finished.steps[index]
        if alone.finished.usage.prompt_tokens == report.usage.prompt_tokens:
            assert steps[index]["ids"] == alone.token_ids, f"step {index}"
            compared += 1
        assert report.usage.completion_tokens == len(steps[index]["ids"])
        assert report.route.domain == domain
    assert compared >= 2
    for report in finished.steps[1:]:
        assert report.usage.cached_tokens > report.usage.prompt_tokens / 2
    assert finished.usage.completion_tokens == sum(len(step["ids"]) for step in steps)
    processes.wait_until(lambda: not any(shared.load().values()), what="that nothing is left")


def test_one_process_answers_the_same(client, cli, model, experts):
    arguments = [argument for domain, text in STEPS for argument in ("--step", f"{domain}: {text}")]
    embedded = cli("generate", "--model", model, "--experts", experts, "--json", "--max-tokens", 12,
                   "--temperature", 0, *arguments)
    assert embedded.returncode == 0, embedded.stderr
    last = json.loads(embedded.stdout.splitlines()[-1])
    answer = client.answer(planned(STEPS))
    assert last["text"] == answer.text
    assert last["token_ids"] == answer.token_ids
    assert [step["usage"]["prompt_tokens"] for step in last["steps"]] == \
        [step.usage.prompt_tokens for step in answer.finished.steps]


def test_a_prompt_is_split_where_it_asks_two_domains(client):
    message = api.request("Write an SQL query that lists all customers, then tell me where the heron "
                          "builds its nest.", max_tokens=8, plan="automatic")
    steps, finished = run_steps(client.stream(message))
    assert [step["started"].domain for step in steps] == ["sql", "birds"]
    assert steps[0]["started"].instruction == "Write an SQL query that lists all customers"
    assert len(finished.steps) == 2


@pytest.mark.parametrize("domain", sorted(prompts.BY_DOMAIN))
def test_a_prompt_of_one_domain_is_no_plan(client, domain):
    whole = client.answer(api.request(prompts.BY_DOMAIN[domain], max_tokens=8))
    answer = client.answer(api.request(prompts.BY_DOMAIN[domain], max_tokens=8, plan="automatic"))
    assert answer.token_ids == whole.token_ids
    assert answer.started.route.domain == domain
    assert not answer.finished.steps


def test_limits_hold_for_each_step_and_for_all(client):
    message = planned(STEPS[:2], max_tokens=50)
    message.stop.ignore_end_of_generation = True
    message.plan.steps[0].max_tokens = 5
    message.plan.max_total_tokens = 11
    finished = client.answer(message).finished
    # One for each, and of the nine that are left its share.
    assert [step.usage.completion_tokens for step in finished.steps] == [1, 9]


def test_a_total_holds_where_there_is_no_plan(client):
    message = api.request(prompts.SQL, max_tokens=50, plan="automatic")
    message.stop.ignore_end_of_generation = True
    message.plan.max_total_tokens = 3
    finished = client.answer(message).finished
    assert not finished.steps
    assert finished.usage.completion_tokens == 3


def test_a_whole_answer_has_its_steps(client):
    whole = client.generate(planned(STEPS[:2]))
    steps = whole.finished.steps
    assert whole.text == "\n\n".join(step.text for step in steps)
    assert all(step.text for step in steps)


def test_steps_may_follow_a_system_message(client):
    message = planned(STEPS[:1])
    message.chat.messages.add(role=api.types.ROLE_SYSTEM, content="Answer briefly.")
    alone = api.request([{"role": "system", "content": "Answer briefly."},
                         {"role": "user", "content": STEPS[0][1]}], max_tokens=12, domain="sql")
    assert client.answer(message).token_ids == client.answer(alone).token_ids


def test_a_step_that_fails_is_named_and_the_others_stay(deployment):
    with api.Client(deployment.router.listen) as client:
        message = planned(STEPS[:2], max_tokens=300)
        message.stop.ignore_end_of_generation = True
        text = {0: "", 1: ""}
        killed = False
        with pytest.raises(api.CcoeError) as raised:
            for event in client.stream(message):
                if not isinstance(event, api.Delta):
                    continue
                text[event.step] += event.text
                if event.step == 1 and event.token_ids and not killed:
                    deployment.experts[1].kill()
                    killed = True
        failure = raised.value
        assert failure.metadata["step"] == "1"
        assert failure.reason == "EXPERT_UNAVAILABLE" or failure.code == grpc.StatusCode.UNAVAILABLE
        alone = planned(STEPS[:1], max_tokens=300)
        alone.stop.ignore_end_of_generation = True
        assert text[0] == client.answer(alone).text


def test_the_best_of_several_answers_is_kept(client, shared):
    events = list(client.stream(api.request(prompts.SQL, max_tokens=12, select=SELECT_BEST,
                                            experts=["birds", "sql", "general"])))
    answer = api.collect(events)
    reports = answer.finished.candidates
    assert [report.expert for report in reports] == ["birds", "sql", "general"]
    best = max(reports, key=lambda report: report.mean_logprob)
    assert [report.selected for report in reports] == [report is best for report in reports]
    assert answer.started.route.expert == best.expert
    assert [event.expert for event in events if isinstance(event, api.StepStarted)] == [best.expert]
    assert answer.finished.usage.completion_tokens == \
        sum(report.usage.completion_tokens for report in reports)
    # The prompt ran through the backbone once at most.
    computed = sorted(report.usage.prompt_tokens - report.usage.cached_tokens for report in reports)
    assert computed[:2] == [1, 1] and 1 <= computed[2] <= reports[0].usage.prompt_tokens
    for report in reports:
        alone = api.request(prompts.SQL, max_tokens=12, domain=report.domain)
        alone.output.top_logprobs = 0
        logprobs, ids = [], []
        for event in client.stream(alone):
            if isinstance(event, api.Delta):
                logprobs += [token.logprob for token in event.logprobs]
                ids += event.token_ids
        assert report.mean_logprob == pytest.approx(sum(logprobs) / len(logprobs), abs=1e-6)
        if report.selected:
            assert answer.token_ids == ids
    processes.wait_until(lambda: not any(shared.load().values()), what="that nothing is left")


def _with(change):
    message = planned(STEPS[:2])
    change(message)
    return message


@pytest.mark.parametrize("message, field", [
    (_with(lambda m: setattr(m, "domain", "sql")), "plan"),
    (_with(lambda m: setattr(m.plan, "automatic", True)), "plan"),
    (_with(lambda m: setattr(m.text, "text", "hello")), "plan"),
    (_with(lambda m: setattr(m.plan.steps[1], "instruction", "")), "plan.steps.instruction"),
    (_with(lambda m: setattr(m.plan.steps[1], "max_tokens", 0)), "plan.steps.max_tokens"),
    (_with(lambda m: setattr(m.plan, "max_total_tokens", 1)), "plan.max_total_tokens"),
    (_with(lambda m: m.plan.steps.extend(m.plan.steps[:1] * 7)), "plan.steps"),
    (_with(lambda m: m.experts.add(name="sql")), "select"),
    (api.request("x", select=SELECT_BEST), "experts"),
    (api.request("x", select=SELECT_BEST,
                 experts=["sql", "sql"]), "experts"),
])
def test_what_makes_no_sense_is_refused(client, message, field):
    failure = api.failure_of(client.answer, message)
    assert failure.code == grpc.StatusCode.INVALID_ARGUMENT
    assert failure.metadata["field"] == field


def test_steps_that_do_not_fit_the_context_are_refused(client):
    message = planned(STEPS[:2], max_tokens=2000)
    message.plan.steps[0].instruction = "many words " * 4200
    failure = api.failure_of(client.answer, message)
    assert failure.reason == "PROMPT_TOO_LONG"
    assert int(failure.metadata["prompt_tokens"]) > int(failure.metadata["max_prompt_tokens"])


def test_an_unknown_expert_is_named_with_its_step(client):
    failure = api.failure_of(client.answer, planned([STEPS[0], ("nobody", "Do it for me.")]))
    assert failure.code == grpc.StatusCode.NOT_FOUND
    assert failure.metadata["step"] == "1"
