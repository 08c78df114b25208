#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace ccoe::gateway {

// What a client asks.
struct HttpRequest {
  std::string method;         // as it came: "GET"
  std::string path;           // without the query
  std::string body;           // whole
  std::string request_id;     // valid; made where the client gave none
  std::string traceparent;    // valid, or empty
  std::string authorization;  // as it came; empty: none
  std::string if_none_match;  // as it came
};

// A whole answer. The connection adds Date, Content-Length, Connection and X-Request-Id.
struct HttpResponse {
  int status = 200;
  std::string body;
  std::string content_type = "application/json";
  std::vector<std::pair<std::string, std::string>> headers = {};  // besides
};

// One request and the way of its answer: either Respond, once, or StartStream, any number of
// Write and EndStream. Used on the loop's thread alone; may outlive the connection: what comes
// after the end, or after the client has left, has no effect.
class Exchange {
 public:
  virtual ~Exchange() = default;

  virtual const HttpRequest& request() const = 0;
  virtual void Respond(HttpResponse response) = 0;

  // Begins an event stream (text/event-stream) with status 200.
  virtual void StartStream() = 0;
  // Whether the client reads more slowly than is written: nothing more should be until OnRoom's.
  virtual bool Full() const = 0;
  virtual void Write(std::string bytes) = 0;
  virtual void EndStream() = 0;

  // Called each time when a stream that was full has room again.
  virtual void OnRoom(std::function<void()> callback) = 0;
  // Called once where the client leaves, or is cut off, before the end of the answer.
  virtual void OnClosed(std::function<void()> callback) = 0;
};

}  // namespace ccoe::gateway
