// One answer in the conversation: its badges, its text by domain, and why it was routed so.

import { explainRoute } from "/api.js";
import { bar, chip, element, milliseconds, tint } from "/dom.js";

const STAGES = {
  explicit: "chosen by hand",
  rules: "by rules",
  learned: "by the learned gate",
  fallback: "fallback: nothing claimed it",
};

function scoreTable(candidates) {
  const most = Math.max(1e-9, ...candidates.flatMap((each) => [each.score, each.threshold]));
  const rows = candidates.map((each) =>
    element("tr", {},
      element("th", { scope: "row", text: each.domain }),
      element("td", {}, bar(each.score / most, each.domain)),
      element("td", { class: "number", text: each.score.toFixed(2) }),
      element("td", { class: "number", text: each.threshold.toFixed(2) })));
  const titles = ["Domain", "", "Score", "Needs"].map((text) =>
    text ? element("th", { scope: "col", text }) : element("td"));
  return element("table", {},
    element("thead", {}, element("tr", {}, ...titles)),
    element("tbody", {}, ...rows));
}

function stageReport(stage) {
  const rules = stage.rules.map((hit) =>
    element("li", {}, tint(element("strong", { class: "domain", text: hit.domain }), hit.domain),
      " found ", element("code", { text: hit.rule }), ` (weight ${hit.weight})`));
  const took = milliseconds(stage.time_ms + stage.state_time_ms);
  return element("section", {},
    element("h3", { text: `Stage ${stage.stage}, ${took}` }),
    rules.length ? element("ul", {}, ...rules) : null,
    stage.candidates.length ? scoreTable(stage.candidates) : null);
}

// The gate's explanation, asked for when it is opened.
function whyDetails(messages) {
  const inside = element("div", {}, element("p", { text: "Asking the gate" }));
  const details = element("details", { class: "why" },
    element("summary", { text: "Why this expert?" }), inside);
  const fill = async () => {
    try {
      const route = await explainRoute(messages);
      const words = `The gate says ${route.domain}, ${STAGES[route.stage] ?? route.stage}, ` +
        `with confidence ${route.confidence.toFixed(2)}` +
        (route.runner_up ? `; next comes ${route.runner_up}.` : ".");
      inside.replaceChildren(element("p", { text: words }),
        ...(route.stages ?? []).map(stageReport));
    } catch (error) {
      inside.replaceChildren(element("p", { text: `${error.message} ${error.advice ?? ""}` }));
      details.addEventListener("toggle", fill, { once: true });
    }
  };
  details.addEventListener("toggle", fill, { once: true });
  return details;
}

// `messages` up to the prompt; `before` is what the answer before it took: {domain, ttftMs}.
export class Answer {
  constructor(messages, before) {
    this.text = "";
    this.route = null;
    this.ttftMs = null;
    this.before = before;
    this.begun = performance.now();
    this.badges = element("p", { class: "badges" });
    this.body = element("div", { class: "text waiting" });
    this.why = whyDetails(messages);
    this.why.hidden = true;
    this.element = element("article", { class: "answer", "aria-label": "Answer" },
      this.badges, this.body, this.why);
    this.piece = null;
  }

  take(chunk) {
    const told = chunk.ccoe ?? {};
    if (told.route && !this.route) this.start(told.route);
    if (told.step_started) this.startStep(told.step_started);
    if (told.step_finished) this.finishStep(told.step_finished);
    if (told.timings_ms) this.timings = told.timings_ms;
    if (told.cached_tokens !== undefined) this.cached = told.cached_tokens;
    if (chunk.usage) this.usage = chunk.usage;
    const words = chunk.choices?.[0]?.delta?.content;
    if (words) this.append(words);
  }

  start(route) {
    this.route = route;
    this.why.hidden = false;
    this.showBadges();
  }

  startStep(step) {
    const title = element("p", { class: "badges" }, chip(step.domain, step.version),
      `Step ${step.step + 1}: ${step.instruction}`);
    this.stepTitle = title;
    this.piece = tint(element("span", { class: "domain" }), step.domain);
    this.body.append(tint(element("div", { class: "step" }, title, this.piece), step.domain));
  }

  finishStep(step) {
    const { completion_tokens: tokens } = step.usage;
    this.stepTitle.append(` · ${tokens} tokens in ${milliseconds(step.timings_ms.decode)}`);
  }

  append(words) {
    if (this.ttftMs === null) {
      this.ttftMs = performance.now() - this.begun;
      this.showBadges();
    }
    if (!this.piece) {
      this.piece = tint(element("span", { class: "domain" }), this.route.domain);
      this.body.append(this.piece);
    }
    this.piece.append(words);
    this.text += words;
  }

  showBadges() {
    if (!this.route) return;
    const { domain, version, stage, confidence } = this.route;
    const parts = [STAGES[stage] ?? stage];
    if (stage !== "explicit") parts.push(`confidence ${confidence.toFixed(2)}`);
    if (this.ttftMs !== null) parts.push(`first token after ${milliseconds(this.ttftMs)}`);
    if (this.usage) {
      const tokens = this.usage.completion_tokens;
      const seconds = this.timings.decode / 1000;
      parts.push(`${tokens} tokens`);
      if (seconds > 0) parts.push(`${(tokens / seconds).toFixed(1)} tokens/s`);
      if (this.cached) parts.push(`${this.cached} of ${this.usage.prompt_tokens} prompt tokens cached`);
    }
    const badges = [chip(domain, version), ...parts.map((text) => element("span", { text }))];
    const switched = this.before && this.before.domain !== domain;
    if (switched && this.ttftMs !== null) {
      const text = `switched from ${this.before.domain}: first token after ` +
        `${milliseconds(this.ttftMs)}, before ${milliseconds(this.before.ttftMs)}`;
      badges.push(element("span", { class: "switch", text }));
    }
    this.badges.replaceChildren(...badges);
  }

  // What is to be announced.
  finish(how) {
    this.body.classList.remove("waiting");
    this.showBadges();
    if (how === "stopped") this.badges.append(element("span", { text: "stopped" }));
    if (!this.route) return "Stopped.";
    const from = `${how === "stopped" ? "Stopped. " : ""}Answer from ${this.route.domain}`;
    return `${from}: ${this.text}`;
  }

  // Shows what went wrong; `again` is offered.
  fail(error, again) {
    this.body.classList.remove("waiting");
    const button = element("button", { type: "button", text: "Try again" });
    button.addEventListener("click", again);
    const code = error.code ? element("code", { text: ` ${error.code}` }) : null;
    this.element.append(element("div", { class: "problem" },
      element("p", {}, element("strong", { text: "No answer. " }), error.message, code),
      element("p", { text: error.advice ?? "" }), button));
    return `No answer. ${error.message} ${error.advice ?? ""}`;
  }
}
