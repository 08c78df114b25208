"""The playground in a real browser, in front of the real model."""

import json
import re

import http_client
import processes
import prompts
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright

CHROMIUM = "/usr/bin/chromium"
CONTRAST_AND_MORE = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]}
ANSWER_MS = 120_000


@pytest.fixture(scope="module")
def serve(tmp_path_factory, model, experts):
    process = processes.Process(tmp_path_factory.mktemp("playground"), "ccoe", {
        "engine": {"model": str(model), "threads": 1, "kv_cache_mib": 160}, "experts": str(experts),
        "http": {"listen": processes.LOCAL}, "admin_listen": processes.LOCAL})
    yield process
    process.kill()


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser):
    """Opens the page of a server; at the end nothing was blocked by its policy, or threw."""
    contexts, complaints = [], []

    def note(message):
        if message.type == "error" and "Failed to load resource" not in message.text:
            complaints.append(message.text)

    def open_at(address, **options):
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.set_default_timeout(ANSWER_MS)
        page.on("console", note)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"http://{address}/")
        expect(page.locator("#picture .node").first).to_be_visible()
        return page

    yield open_at
    for context in contexts:
        context.close()
    assert complaints == []


def ask(page, words, tokens=8):
    """Sends a prompt and waits for the end of its answer, which it returns."""
    page.fill("#tokens", str(tokens))
    page.fill("#prompt", words)
    page.press("#prompt", "Enter")
    expect(page.locator("#send")).to_be_visible(timeout=ANSWER_MS)
    return page.locator(".answer").last


def check_accessible(page):
    violations = Axe().run(page, options=CONTRAST_AND_MORE).response["violations"]
    assert violations == [], json.dumps(violations, indent=1)[:4000]


def test_how_its_files_are_served(serve):
    status, fields, body = http_client.request(serve.http, "GET", "/")
    assert status == 200 and b"<html" in body
    assert fields["content-type"] == "text/html; charset=utf-8"
    assert "script-src 'self'" in fields["content-security-policy"]
    assert fields["x-content-type-options"] == "nosniff"
    status, again, body = http_client.request(serve.http, "GET", "/",
                                              headers={"If-None-Match": fields["etag"]})
    assert (status, body, again["etag"]) == (304, b"", fields["etag"])
    status, fields, _ = http_client.request(serve.http, "GET", "/playground.js")
    assert (status, fields["content-type"]) == (200, "text/javascript; charset=utf-8")


def test_a_conversation_by_keyboard_alone(serve, open_page):
    page = open_page(serve.http)
    assert page.evaluate("document.activeElement.id") == "prompt"
    page.keyboard.type(prompts.SQL)
    page.keyboard.press("Enter")
    expect(page.locator("#announcer")).to_contain_text("Answer from sql", timeout=ANSWER_MS)
    answer = page.locator(".answer").last
    written = answer.locator(".text .domain")
    assert written.get_attribute("data-domain") == "sql" and written.inner_text()
    expect(answer.locator(".badges")).to_contain_text(re.compile(r"sql@.*by rules.*first token after"))
    expect(answer.locator(".badges")).to_contain_text("tokens/s")
    # The colour is the domain's: that of the chip beside it.
    colour = "element => getComputedStyle(element).color"
    assert written.evaluate(colour) == answer.locator(".chip").evaluate(colour)
    assert written.evaluate(colour) != page.locator("body").evaluate(colour)
    assert page.evaluate("document.activeElement.id") == "prompt"

    answer.locator("summary").focus()
    page.keyboard.press("Enter")
    why = answer.locator(".why")
    expect(why).to_contain_text("The gate says sql, by rules")
    expect(why.locator("li").first).to_contain_text("sql found")
    assert why.locator(".bar").count() >= 2
    check_accessible(page)


def test_another_expert_in_mid_conversation(serve, open_page):
    page = open_page(serve.http)
    ask(page, prompts.SQL)
    page.select_option("#expert", "birds")
    answer = ask(page, "And now?")
    expect(answer.locator(".badges")).to_contain_text("chosen by hand")
    expect(answer.locator(".switch")).to_contain_text(
        re.compile(r"switched from sql: first token after .*s, before .*s"))
    assert answer.locator(".text .domain").get_attribute("data-domain") == "birds"
    page.select_option("#expert", page.locator("#expert option", has_text="sql@").inner_text())
    assert ask(page, "Again.").locator(".text .domain").get_attribute("data-domain") == "sql"


def test_a_plan_shows_its_steps(serve, open_page):
    page = open_page(serve.http)
    page.check("#plan")
    expect(page.locator("#expert")).to_be_disabled()
    answer = ask(page, "First write an SQL query that lists all customers. "
                       "Then tell where the heron builds its nest.")
    steps = answer.locator(".step")
    expect(steps).to_have_count(2)
    domains = steps.evaluate_all("all => all.map(each => each.dataset.domain)")
    assert domains == ["sql", "birds"]
    expect(steps.nth(1)).to_contain_text(re.compile(r"Step 2: .*heron.* tokens in "))


def test_stop_ends_the_answer_and_keeps_what_came(serve, open_page):
    page = open_page(serve.http)
    page.fill("#tokens", "1000")
    page.select_option("#expert", "birds")  # its weights are random: it does not end by itself
    page.fill("#prompt", prompts.GENERAL)
    page.press("#prompt", "Enter")
    expect(page.locator(".text .domain")).not_to_be_empty()
    page.keyboard.press("Escape")
    expect(page.locator("#announcer")).to_contain_text("Stopped.")
    expect(page.locator(".badges")).to_contain_text("stopped")
    expect(page.locator("#send")).to_be_visible()
    figures = page.locator("#figures")
    expect(figures).to_contain_text(re.compile(r"Active requests\s*0"))


def test_an_error_says_what_to_do(serve, open_page):
    page = open_page(serve.http)
    page.fill("#tokens", "8")
    answer = ask(page, "word " * 12000)
    expect(answer.locator(".problem")).to_contain_text("Shorten the prompt")
    expect(page.locator("#announcer")).to_contain_text("No answer.")
    check_accessible(page)


def test_the_key_goes_with_requests(serve, open_page):
    page = open_page(serve.http)
    page.click("#access summary")
    page.fill("#key", "secret")
    page.press("#key", "Tab")
    with page.expect_request(lambda request: "/v1/chat" in request.url) as sent:
        ask(page, prompts.GENERAL)
    assert sent.value.headers["authorization"] == "Bearer secret"
    assert page.evaluate("localStorage.length") == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read_in_both_schemes_and_on_a_small_screen(serve, open_page, scheme):
    page = open_page(serve.http, color_scheme=scheme, viewport={"width": 360, "height": 740},
                     reduced_motion="reduce")
    ask(page, prompts.SQL)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (int(re.findall(r"\d+", background)[0]) < 128) == (scheme == "dark")
    check_accessible(page)


def test_the_picture_follows_an_expert_that_is_popped(serve, open_page, cli, experts):
    page = open_page(serve.http)
    experts_shown = page.locator("#picture .chip")
    expect(experts_shown).to_contain_text(["birds@"])
    popped = cli("experts", "pop", "birds", "--admin", serve.admin)
    assert popped.returncode == 0, popped.stderr
    expect(page.locator("#picture")).not_to_contain_text("birds@")
    expect(page.locator("#expert option", has_text="birds")).to_have_count(0)
    assert cli("experts", "push", experts / "birds", "--admin", serve.admin).returncode == 0
    expect(page.locator("#picture")).to_contain_text("birds@")


def test_the_picture_follows_a_process_that_is_killed(tmp_path, deployment, open_page):
    gateway = processes.Process(tmp_path, "ccoe-gateway", {
        "router": deployment.router.listen, "http": {"listen": processes.LOCAL}})
    try:
        page = open_page(gateway.http)
        expect(page.locator("#picture .node")).to_have_count(4)
        expect(page.locator("#system-state")).to_have_text("All healthy")
        deployment.experts[1].kill()
        away = page.locator("#picture .node.away")
        expect(away).to_have_count(1)
        expect(away).to_contain_text("birds@")
        expect(page.locator("#system-state")).to_have_text("1 of 4 processes away")
        check_accessible(page)
    finally:
        gateway.kill()
