// The server's HTTP API as the page needs it.

const KEY = "ccoe-api-key";

export const apiKey = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY)),
};

// What a request failed with; `status` is 0 where no answer came, or not to its end.
export class ApiError extends Error {
  constructor(status, error, retryAfterS) {
    super(error.message);
    this.status = status;
    this.code = error.code ?? "";
    this.retryAfterS = retryAfterS;
  }

  // What the user can do.
  get advice() {
    if (this.status === 401 || this.status === 403) return "Enter a valid API key above.";
    if (this.code === "model_not_found") return "Choose another expert: this one is not served now.";
    if (this.code === "prompt_too_long" || this.code === "context_length_exceeded") {
      return "Shorten the prompt, or begin a new conversation.";
    }
    if (this.retryAfterS) return `Try again in ${this.retryAfterS} s.`;
    if (this.status === 400) return "Change the request as the message says.";
    if (this.status === 0) return "Check that the server runs, then try again.";
    return "Try again in a moment.";
  }
}

async function send(path, body, signal) {
  const headers = {};
  if (apiKey.get()) headers.Authorization = `Bearer ${apiKey.get()}`;
  if (body) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, {
      method: body ? "POST" : "GET",
      headers,
      body: body && JSON.stringify(body),
      cache: "no-store",
      signal,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, { message: "The server cannot be reached.", code: "unreachable" });
  }
  if (response.ok) return response;
  const answer = await response.json().catch(() => null);
  const error = answer?.error ?? { message: `The server answered ${response.status}.` };
  throw new ApiError(response.status, error, Number(response.headers.get("Retry-After")));
}

export const getStatus = async () => (await send("/v1/ccoe/status")).json();
export const explainRoute = async (messages) => (await send("/v1/ccoe/route", { messages })).json();

// The chunks of a chat completion as they come.
export async function* streamChat(request, signal) {
  const body = { ...request, stream: true, stream_options: { include_usage: true } };
  const response = await send("/v1/chat/completions", body, signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  const brokenOff = new ApiError(0, { message: "The answer broke off.", code: "broken_off" });
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read().catch((error) => {
      throw error.name === "AbortError" ? error : brokenOff;
    });
    if (done) throw brokenOff;
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const data = event.replace(/^data: /, "");
      if (data === "[DONE]") return;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new ApiError(503, chunk.error);
      yield chunk;
    }
  }
}
