// The picture of the system: asked for each second while the page is seen, less often when that
// fails.

import { getStatus } from "/api.js";
import { bar, chip, element } from "/dom.js";

const EVERY_MS = 1000;
const MOST_MS = 30000;
const SAMPLES = 60;
const ROLES = { server: "Server", router: "Router", backbone: "Backbone", expert: "Expert process" };

const at = (id) => document.getElementById(id);
const rates = [];
let last = null;

function nodeCard(node) {
  const load = node.load;
  const experts = node.experts.map((expert) => {
    const item = element("li", {}, chip(expert.domain, expert.version));
    if (expert.active_requests) item.append(` ${expert.active_requests} running`);
    return item;
  });
  return element("article", { class: node.healthy ? "node" : "node away" },
    element("h3", { text: ROLES[node.role] ?? node.role },
      element("span", { class: "health", text: node.healthy ? "● healthy" : "○ away" })),
    node.address ? element("p", { class: "quiet address", text: node.address }) : null,
    node.message ? element("p", { class: "message", text: node.message }) : null,
    load
      ? element("p", { class: "kv" }, "KV blocks",
          bar(load.kv_blocks_used / Math.max(1, load.kv_blocks_total)),
          `${load.kv_blocks_used} / ${load.kv_blocks_total}`)
      : null,
    load
      ? element("p", { class: "quiet",
          text: `${load.sessions_running} sessions run, ${load.sessions_waiting} wait` })
      : null,
    experts.length ? element("ul", { "aria-label": "Experts" }, ...experts) : null);
}

function showPicture(nodes) {
  const rows = ["server", "router", "backbone", "expert"]
    .map((role) => nodes.filter((node) => node.role === role))
    .filter((row) => row.length > 0);
  at("picture").replaceChildren(
    ...rows.map((row) => element("div", { class: "row" }, ...row.map(nodeCard))));
}

function rateOf(status) {
  const now = performance.now();
  const before = last;
  last = { now, tokens: status.generated_tokens, started: status.started_at_s };
  if (!before || before.started !== last.started) return 0;
  return (1000 * (last.tokens - before.tokens)) / (now - before.now);
}

function showFigures(status, rate) {
  const figures = [
    ["Tokens per second", rate.toFixed(1)],
    ["Active requests", status.active_requests],
    ["Tokens generated", status.generated_tokens.toLocaleString("en")],
    ["Prompt tokens (cached)",
      `${status.prompt_tokens.toLocaleString("en")} (${status.cached_tokens.toLocaleString("en")})`],
  ];
  at("figures").replaceChildren(...figures.map(([name, value]) =>
    element("div", {}, element("dt", { text: name }), element("dd", { text: value }))));
  rates.push(rate);
  if (rates.length > SAMPLES) rates.shift();
  const most = Math.max(1, ...rates);
  const points = rates.map((each, i) =>
    `${(120 * i) / (SAMPLES - 1)},${(27 - (26 * each) / most).toFixed(1)}`);
  at("spark").firstElementChild.setAttribute("points", points.join(" "));
}

function offer(select, status) {
  const experts = status.experts ?? [];
  const served = experts.filter((expert) => ["ready", "unavailable"].includes(expert.state));
  const names = new Set(["auto"]);
  for (const { domain } of served) names.add(domain);
  for (const { domain, version } of served) names.add(`${domain}@${version}`);
  const known = [...select.options].map((option) => option.value);
  if (names.size === known.length && known.every((name) => names.has(name))) return;
  const chosen = select.value;
  select.replaceChildren(...[...names].map((name) =>
    element("option", { value: name, text: name === "auto" ? "auto: the gate decides" : name })));
  select.value = names.has(chosen) ? chosen : "auto";
}

function show(status) {
  for (const { domain } of status.experts ?? []) chip(domain, "");  // fixes the colours' order
  showPicture(status.nodes);
  showFigures(status, rateOf(status));
  offer(at("expert"), status);
  const away = status.nodes.filter((node) => !node.healthy).length;
  setText("system-state", away ? `${away} of ${status.nodes.length} processes away` : "All healthy");
  const model = status.model;
  if (model) setText("model", `${model.name} · ${model.layers} layers · ${model.arithmetic}`);
}

function setText(id, text) {
  if (at(id).textContent !== text) at(id).textContent = text;
}

// Never ends.
export async function watchSystem() {
  let pauseMs = EVERY_MS;
  let wake = null;
  const wakeUp = () => !document.hidden && wake?.();
  document.addEventListener("visibilitychange", wakeUp);
  document.addEventListener("ccoe-key", wakeUp);
  for (;;) {
    if (!document.hidden) {
      try {
        show(await getStatus());
        pauseMs = EVERY_MS;
      } catch (error) {
        pauseMs = Math.min(MOST_MS, 2 * pauseMs);
        setText("system-state", `No picture: ${error.message} ${error.advice ?? ""}`);
        last = null;
      }
    }
    await new Promise((resolve) => {
      wake = resolve;
      setTimeout(resolve, document.hidden ? MOST_MS : pauseMs);
    });
  }
}
