#include "services/gateway/http_connection.h"

#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/write.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/status.hpp>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/rpc/request_context.h"
#include "services/gateway/http_error.h"

namespace ccoe::gateway {

namespace net = boost::asio;
namespace http = boost::beast::http;

namespace {

constexpr size_t kPieceBytes = 64 << 10;    // given to the socket at once
constexpr size_t kFullBytes = 64 << 10;     // waiting; from here a stream is full ...
constexpr size_t kRoomBytes = 16 << 10;     // ... and down here it has room again
constexpr int kSocketSendBytes = 64 << 10;  // what the kernel keeps besides
constexpr size_t kMaxAuthorizationBytes = 4 << 10;
constexpr absl::Duration kLinger = absl::Seconds(2);

std::string_view View(boost::beast::string_view text) { return {text.data(), text.size()}; }
absl::string_view AbslView(boost::beast::string_view text) { return {text.data(), text.size()}; }

std::string Now() {
  return absl::FormatTime("%a, %d %b %Y %H:%M:%S GMT", absl::Now(), absl::UTCTimeZone());
}

// Whether gRPC's metadata may carry it.
bool IsHeaderValue(std::string_view value) {
  return value.size() <= kMaxAuthorizationBytes &&
         std::all_of(value.begin(), value.end(), [](char c) { return c >= ' ' && c <= '~'; });
}

// Whether a page of another origin asks: browsers tell the origin, and others seldom do.
bool IsForeign(const http::request<http::string_body>& message) {
  const absl::string_view origin = AbslView(message[http::field::origin]);
  const std::string own = absl::StrCat("://", AbslView(message[http::field::host]));
  return !origin.empty() && !absl::EndsWithIgnoreCase(origin, own);
}

HttpRequest Describe(http::request<http::string_body>&& message) {
  HttpRequest request;
  const std::string_view target = View(message.target());
  request.method = std::string(View(message.method_string()));
  request.path = std::string(target.substr(0, target.find('?')));
  const std::string_view id = View(message[rpc::kRequestIdKey]);
  request.request_id = rpc::IsValidRequestId(id) ? std::string(id) : rpc::MakeRequestId();
  const std::string_view trace = View(message[rpc::kTraceparentKey]);
  if (rpc::IsValidTraceparent(trace)) request.traceparent = std::string(trace);
  const std::string_view authorization = View(message[http::field::authorization]);
  if (IsHeaderValue(authorization)) request.authorization = std::string(authorization);
  request.if_none_match = std::string(View(message[http::field::if_none_match]));
  request.body = std::move(message.body());
  return request;
}

}  // namespace

// Keeps the connection while the answer is made.
class HttpConnection::Answer final : public Exchange {
 public:
  Answer(std::shared_ptr<HttpConnection> connection, HttpRequest request)
      : connection_(std::move(connection)), request_(std::move(request)) {}

  const HttpRequest& request() const override { return request_; }

  void Respond(HttpResponse response) override {
    const auto connection = Release();
    if (connection == nullptr) return;
    connection->SendWhole(response);
    connection->Finish();
  }

  void StartStream() override {
    if (connection_ != nullptr) connection_->SendStreamHead();
  }

  bool Full() const override { return connection_ != nullptr && connection_->full_; }

  void Write(std::string bytes) override {
    if (connection_ == nullptr || bytes.empty()) return;
    connection_->SendPiece(bytes);
  }

  void EndStream() override {
    const auto connection = Release();
    if (connection == nullptr) return;
    if (connection->chunked_) connection->Send("0\r\n\r\n");
    connection->Finish();
  }

  void OnRoom(std::function<void()> callback) override {
    if (connection_ != nullptr) on_room_ = std::move(callback);
  }
  void OnClosed(std::function<void()> callback) override {
    if (closed_) {
      callback();
    } else if (connection_ != nullptr) {
      on_closed_ = std::move(callback);
    }
  }

  void TellRoom() {
    if (on_room_) on_room_();
  }
  void TellClosed() {
    closed_ = true;
    const std::function<void()> callback = std::move(on_closed_);
    Release();
    if (callback) callback();
  }

 private:
  // Lets go of the connection and of those who would be called.
  std::shared_ptr<HttpConnection> Release() {
    on_room_ = nullptr;
    on_closed_ = nullptr;
    return std::exchange(connection_, nullptr);
  }

  std::shared_ptr<HttpConnection> connection_;
  const HttpRequest request_;
  bool closed_ = false;
  std::function<void()> on_room_;
  std::function<void()> on_closed_;
};

HttpConnection::HttpConnection(net::ip::tcp::socket socket, Host& host)
    : socket_(std::move(socket)),
      host_(host),
      read_timer_(socket_.get_executor()),
      write_timer_(socket_.get_executor()),
      buffer_(kMaxHeaderBytes + kPieceBytes) {
  Error ignored;
  socket_.set_option(net::ip::tcp::no_delay(true), ignored);
  socket_.set_option(net::socket_base::send_buffer_size(kSocketSendBytes), ignored);
}

HttpConnection::~HttpConnection() { host_.on_gone(this); }

void HttpConnection::Start() { AwaitRequest(); }

void HttpConnection::Refuse() {
  RefuseRequest(503, "too_many_connections", "the server has as many connections as it takes");
}

void HttpConnection::Drain() {
  keep_alive_ = false;
  if (phase_ == Phase::kIdle) Close();
}

void HttpConnection::Close() {
  if (phase_ == Phase::kClosed) return;
  phase_ = Phase::kClosed;
  read_timer_.cancel();
  write_timer_.cancel();
  Error ignored;
  socket_.close(ignored);
  if (const auto answer = std::exchange(answer_, nullptr); answer != nullptr) answer->TellClosed();
}

void HttpConnection::AwaitRequest() {
  phase_ = Phase::kIdle;
  if (buffer_.size() > 0) return ReadHeader();
  buffer_.shrink_to_fit();
  Arm(read_timer_, host_.options.limits.idle_timeout, &HttpConnection::Close);
  socket_.async_wait(net::socket_base::wait_read, [self = shared_from_this()](const Error& error) {
    if (self->phase_ != Phase::kIdle) return;
    error ? self->Close() : self->ReadHeader();
  });
}

void HttpConnection::ReadHeader() {
  phase_ = Phase::kReading;
  parser_.emplace();
  parser_->header_limit(kMaxHeaderBytes);
  parser_->body_limit(host_.options.limits.max_body_bytes);
  Arm(read_timer_, host_.options.limits.read_timeout, &HttpConnection::OnReadTimeout);
  http::async_read_header(
      socket_, buffer_, *parser_,
      [self = shared_from_this()](const Error& error, size_t) { self->OnHeader(error); });
}

void HttpConnection::OnHeader(const Error& error) {
  if (phase_ != Phase::kReading) return;
  if (timed_out_) return RefuseLate();
  if (error) return OnBadRequest(error);
  // One that does not end in chunked would be taken for no body, and what follows for a request.
  if (!parser_->chunked() && parser_->get().count(http::field::transfer_encoding) > 0) {
    return RefuseRequest(400, "malformed_request", "not HTTP: a Transfer-Encoding but chunked");
  }
  if (!parser_->is_done() &&
      absl::EqualsIgnoreCase(AbslView(parser_->get()[http::field::expect]), "100-continue")) {
    Send("HTTP/1.1 100 Continue\r\n\r\n");
  }
  http::async_read(
      socket_, buffer_, *parser_,
      [self = shared_from_this()](const Error& body_error, size_t) { self->OnBody(body_error); });
}

void HttpConnection::OnBody(const Error& error) {
  if (phase_ != Phase::kReading) return;
  if (timed_out_) return RefuseLate();
  if (error) return OnBadRequest(error);
  read_timer_.cancel();
  if (IsForeign(parser_->get())) {
    return RefuseRequest(403, "foreign_origin", "pages of other origins may not ask this server");
  }
  keep_alive_ = parser_->get().keep_alive() && !host_.draining;
  chunked_ = parser_->get().version() >= 11;
  HttpRequest request = Describe(parser_->release());
  parser_.reset();
  head_only_ = request.method == "HEAD";
  request_id_ = request.request_id;
  phase_ = Phase::kAnswering;
  finished_ = false;
  ++requests_;
  answer_ = std::make_shared<Answer>(shared_from_this(), std::move(request));
  WatchForEnd();
  host_.options.handler(answer_);
}

void HttpConnection::OnBadRequest(const Error& error) {
  if (error == http::error::header_limit || error == http::error::buffer_overflow) {
    RefuseRequest(431, "header_too_large",
                  absl::StrCat("the request's head is larger than ", kMaxHeaderBytes, " bytes"));
  } else if (error == http::error::body_limit) {
    RefuseRequest(413, "body_too_large",
                  absl::StrCat("the request's body is larger than ",
                               host_.options.limits.max_body_bytes, " bytes"));
  } else if (error.category() == make_error_code(http::error::end_of_stream).category() &&
             error != http::error::end_of_stream && error != http::error::partial_message) {
    RefuseRequest(400, "malformed_request", absl::StrCat("not HTTP: ", error.message()));
  } else {
    Close();  // the client has left
  }
}

// The read uses the parser and the buffer until it has ended, and one whose bytes are there already
// cannot be cancelled.
void HttpConnection::OnReadTimeout() {
  if (phase_ != Phase::kReading) return;  // it expired as the request came
  timed_out_ = true;
  Error ignored;
  socket_.cancel(ignored);
  Arm(read_timer_, kLinger, &HttpConnection::Close);
}

void HttpConnection::RefuseLate() {
  RefuseRequest(408, "request_timeout", "the request did not arrive in time");
}

void HttpConnection::RefuseRequest(int status, const char* code, const std::string& message) {
  phase_ = Phase::kAnswering;
  parser_.reset();
  read_timer_.cancel();
  request_id_ = rpc::MakeRequestId();
  keep_alive_ = false;
  head_only_ = false;
  host_.options.on_refused(status);
  SendWhole(ErrorResponse(status, code, message));
  Finish();
}

// Closes the connection once the client has ended its side. What the client sends ahead waits, and
// with it such an end.
void HttpConnection::WatchForEnd() {
  socket_.async_wait(net::socket_base::wait_read, [self = shared_from_this(),
                                                   request = requests_](const Error& error) {
    if (self->phase_ != Phase::kAnswering || self->requests_ != request) return;
    char byte = 0;
    Error peeked = error;
    if (!error) {
      self->socket_.receive(net::buffer(&byte, 1), net::socket_base::message_peek, peeked);
    }
    if (peeked) self->Close();
  });
}

std::string HttpConnection::Head(int status, absl::string_view fields) const {
  return absl::StrCat("HTTP/1.1 ", status, " ", ReasonPhrase(status), "\r\nDate: ", Now(),
                      "\r\nX-Request-Id: ", request_id_,
                      "\r\nConnection: ", keep_alive_ ? "keep-alive" : "close", "\r\n", fields,
                      "\r\n");
}

void HttpConnection::SendWhole(const HttpResponse& response) {
  std::string fields;
  if (response.status != 204 && response.status != 304) {
    absl::StrAppend(&fields, "Content-Type: ", response.content_type,
                    "\r\nContent-Length: ", response.body.size(), "\r\n");
  }
  for (const auto& [name, value] : response.headers) {
    absl::StrAppend(&fields, name, ": ", value, "\r\n");
  }
  Send(absl::StrCat(Head(response.status, fields), head_only_ ? "" : response.body));
}

void HttpConnection::SendStreamHead() {
  if (!chunked_) keep_alive_ = false;
  Send(Head(200, absl::StrCat("Content-Type: text/event-stream\r\nCache-Control: no-cache\r\n",
                              chunked_ ? "Transfer-Encoding: chunked\r\n" : "")));
}

void HttpConnection::SendPiece(const std::string& bytes) {
  if (chunked_) {
    Send(absl::StrCat(absl::Hex(bytes.size()), "\r\n", bytes, "\r\n"));
  } else {
    Send(bytes);
  }
}

void HttpConnection::Send(absl::string_view bytes) {
  pending_.append(bytes.data(), bytes.size());
  full_ = full_ || pending_.size() + in_flight_.size() >= kFullBytes;
  WriteNext();
}

void HttpConnection::WriteNext() {
  if (!in_flight_.empty() || pending_.empty() || phase_ == Phase::kClosed) return;
  if (pending_.size() <= kPieceBytes) {
    in_flight_.swap(pending_);
  } else {
    in_flight_ = pending_.substr(0, kPieceBytes);
    pending_.erase(0, kPieceBytes);
  }
  Arm(write_timer_, host_.options.limits.write_timeout, &HttpConnection::Close);
  net::async_write(
      socket_, net::buffer(in_flight_),
      [self = shared_from_this()](const Error& error, size_t) { self->OnWritten(error); });
}

void HttpConnection::OnWritten(const Error& error) {
  if (phase_ == Phase::kClosed) return;
  if (error) return Close();
  write_timer_.cancel();
  in_flight_.clear();
  WriteNext();
  if (finished_ && in_flight_.empty()) return OnAnswered();
  if (full_ && pending_.size() + in_flight_.size() <= kRoomBytes) {
    full_ = false;
    if (const auto answer = answer_; answer != nullptr) answer->TellRoom();
  }
}

void HttpConnection::Finish() {
  finished_ = true;
  answer_.reset();
  if (in_flight_.empty()) OnAnswered();
}

void HttpConnection::OnAnswered() {
  full_ = false;
  finished_ = false;
  std::string().swap(in_flight_);
  if (keep_alive_ && !host_.draining) {
    AwaitRequest();
  } else {
    CloseGently();
  }
}

// A socket that is closed with unread bytes would take the answer back.
void HttpConnection::CloseGently() {
  phase_ = Phase::kClosing;
  Error ignored;
  socket_.shutdown(net::ip::tcp::socket::shutdown_send, ignored);
  Arm(read_timer_, kLinger, &HttpConnection::Close);
  DiscardUntilEnd();
}

void HttpConnection::DiscardUntilEnd() {
  buffer_.clear();
  socket_.async_read_some(buffer_.prepare(4096),
                          [self = shared_from_this()](const Error& error, size_t) {
                            error ? self->Close() : self->DiscardUntilEnd();
                          });
}

void HttpConnection::Arm(net::steady_timer& timer, absl::Duration limit,
                         void (HttpConnection::*on_expired)()) {
  timer.expires_after(absl::ToChronoNanoseconds(limit));
  timer.async_wait([weak = weak_from_this(), on_expired](const Error& error) {
    const auto self = weak.lock();
    if (!error && self != nullptr && self->phase_ != Phase::kClosed) (self.get()->*on_expired)();
  });
}

}  // namespace ccoe::gateway
