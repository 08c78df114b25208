#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "services/gateway/exchange.h"
#include "services/gateway/http_server.h"

namespace ccoe::gateway {

// Bytes of a request's head.
inline constexpr unsigned kMaxHeaderBytes = 16 << 10;

// A client's connection: reads a request, has it answered, and goes on with the next one. Lives
// until its socket is closed; on the loop's thread alone.
class HttpConnection : public std::enable_shared_from_this<HttpConnection> {
 public:
  // What it has in common with the others; outlives it.
  struct Host {
    HttpServerOptions options;
    bool draining = false;
    std::function<void(HttpConnection*)> on_gone;  // called by its destructor
  };

  HttpConnection(boost::asio::ip::tcp::socket socket, Host& host);
  ~HttpConnection();

  void Start();
  // Answers 503 to whatever comes, and closes.
  void Refuse();
  // Closes it now where it is idle, otherwise after its answer.
  void Drain();
  // Closes it now.
  void Close();

 private:
  class Answer;
  using Error = boost::system::error_code;

  void AwaitRequest();
  void ReadHeader();
  void OnHeader(const Error& error);
  void OnBody(const Error& error);
  void OnBadRequest(const Error& error);
  void OnReadTimeout();
  void RefuseLate();
  void RefuseRequest(int status, const char* code, const std::string& message);
  void WatchForEnd();

  std::string Head(int status, absl::string_view fields) const;
  void SendWhole(const HttpResponse& response);
  void SendStreamHead();
  void SendPiece(const std::string& bytes);
  void Send(absl::string_view bytes);
  void WriteNext();
  void OnWritten(const Error& error);
  void Finish();
  void OnAnswered();
  void CloseGently();
  void DiscardUntilEnd();
  // Calls `on_expired` unless `timer` is cancelled or armed anew within `limit`.
  void Arm(boost::asio::steady_timer& timer, absl::Duration limit,
           void (HttpConnection::*on_expired)());

  enum class Phase { kIdle, kReading, kAnswering, kClosing, kClosed };

  boost::asio::ip::tcp::socket socket_;
  Host& host_;
  boost::asio::steady_timer read_timer_;
  boost::asio::steady_timer write_timer_;
  boost::beast::flat_buffer buffer_;
  std::optional<boost::beast::http::request_parser<boost::beast::http::string_body>> parser_;
  Phase phase_ = Phase::kIdle;

  uint64_t requests_ = 0;  // that were read

  std::shared_ptr<Answer> answer_;  // while it is made
  std::string request_id_;
  bool keep_alive_ = false;
  bool chunked_ = false;    // how a stream is sent
  bool head_only_ = false;  // HEAD
  bool finished_ = false;   // all of the answer was given to Send
  bool timed_out_ = false;  // the request did not arrive in time; its read has not ended yet
  bool full_ = false;
  std::string pending_;    // not yet given to the socket
  std::string in_flight_;  // given to it; empty: nothing is being written
};

}  // namespace ccoe::gateway
