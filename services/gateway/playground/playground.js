// The conversation: what is typed goes to the server, what comes is shown as it comes.

import { Answer } from "/answer.js";
import { apiKey, streamChat } from "/api.js";
import { element } from "/dom.js";
import { watchSystem } from "/system.js";

const at = (id) => document.getElementById(id);
const [form, prompt, turns, conversation] = ["form", "prompt", "turns", "conversation"].map(at);

let messages = [];
let before = null;   // the last answer's {domain, ttftMs}
let running = null;  // the AbortController of an answer under way

function setRunning(controller) {
  const hadFocus = [at("send"), at("stop")].includes(document.activeElement);
  running = controller;
  at("stop").hidden = controller === null;
  at("send").hidden = controller !== null;
  conversation.setAttribute("aria-busy", String(controller !== null));
  if (hadFocus) (controller ? at("stop") : prompt).focus();
}

function requestFor(asked) {
  const request = {
    model: at("plan").checked ? "auto" : at("expert").value,
    messages: asked,
    max_tokens: Number(at("tokens").value) || 200,
  };
  if (at("plan").checked) request.ccoe = { plan: "auto" };
  return request;
}

// Follows the end, unless the reader has scrolled away from it.
function follow(change) {
  const atEnd = conversation.scrollHeight - conversation.scrollTop - conversation.clientHeight < 60;
  change();
  if (atEnd) conversation.scrollTop = conversation.scrollHeight;
}

async function ask(words) {
  const asked = [...messages, { role: "user", content: words }];
  const answer = new Answer(asked, before);
  const turn = element("li", {}, element("p", { class: "ask", text: words }), answer.element);
  at("welcome").hidden = true;
  turns.append(turn);
  conversation.scrollTop = conversation.scrollHeight;
  const controller = new AbortController();
  setRunning(controller);
  const keep = () => {
    if (!answer.text || !turn.isConnected) return;
    messages = [...asked, { role: "assistant", content: answer.text }];
    before = { domain: answer.piece.dataset.domain, ttftMs: answer.ttftMs };
  };
  let news;
  try {
    for await (const chunk of streamChat(requestFor(asked), controller.signal)) {
      follow(() => answer.take(chunk));
    }
    keep();
    news = answer.finish("done");
  } catch (error) {
    if (controller.signal.aborted) {
      keep();
      news = answer.finish("stopped");
    } else {
      follow(() => {
        news = answer.fail(error, () => {
          turn.remove();
          prompt.focus();
          ask(words);
        });
      });
    }
  }
  if (running === controller) setRunning(null);
  if (turn.isConnected) at("announcer").textContent = news;
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const words = prompt.value.trim();
  if (!words || running) return;
  prompt.value = "";
  ask(words);
});

prompt.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  form.requestSubmit();
});

const stop = () => running?.abort();
at("stop").addEventListener("click", stop);
document.addEventListener("keydown", (event) => event.key === "Escape" && stop());

at("plan").addEventListener("change", () => (at("expert").disabled = at("plan").checked));

at("clear").addEventListener("click", () => {
  stop();
  messages = [];
  before = null;
  turns.replaceChildren();
  at("welcome").hidden = false;
  at("announcer").textContent = "New conversation.";
  prompt.focus();
});

at("key").value = apiKey.get();
at("key").addEventListener("change", () => {
  apiKey.set(at("key").value.trim());
  document.dispatchEvent(new Event("ccoe-key"));
});

watchSystem();
