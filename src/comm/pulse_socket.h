// PulseSocket: a TCP socket that carries messages of one size and knows why it closed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace lockstep {

struct PulseMessage {
  enum Kind : std::int32_t { kHello, kPulse, kVerdict, kFarewell };
  std::int32_t kind = kPulse;
  std::int32_t rank = 0;
  std::uint64_t calls = 0;
  double silent_seconds = 0.0;
  char text[360] = {};  // ends in a zero byte

  void set_text(std::string_view from);
  std::string_view text_view() const;
};

class PulseSocket {
 public:
  PulseSocket() = default;
  ~PulseSocket() { close(); }
  PulseSocket(PulseSocket&& other) noexcept;
  PulseSocket& operator=(PulseSocket&& other) noexcept;

  // On a port of the system's choice, on all interfaces. `problem` says why not.
  static PulseSocket listen(std::string& problem);
  // To the first of `addresses` ("ADDRESS PORT ADDRESS PORT ...") that answers `hello` with the
  // same message. Blocks for seconds at most; `problem` says why none did.
  static PulseSocket connect(const std::string& addresses, const PulseMessage& hello,
                             std::string& problem);
  PulseSocket accept() const;  // not open when nobody knocks

  bool open() const { return fd_ >= 0; }
  int get() const { return fd_; }
  int port() const;
  // Neither blocks. What a full socket does not take is dropped; an error closes the socket.
  void send(const PulseMessage& message);
  bool receive(PulseMessage& message);  // true if a whole message was there
  void close();
  // The other end stopped acknowledging, rather than that its process ended.
  bool cut_off() const { return cut_off_; }

 private:
  explicit PulseSocket(int fd) : fd_(fd) {}
  void watch_connection(int timeout_ms) const;
  void fail(int error);

  int fd_ = -1;
  bool cut_off_ = false;
  std::size_t received_ = 0;  // bytes of incoming_
  PulseMessage incoming_;
};

// "ADDRESS PORT" of every interface that is up, loopback last.
std::string own_addresses(int port);
std::string random_token();  // 32 hex digits

}  // namespace lockstep
