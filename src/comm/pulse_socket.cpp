// Sockets as the watchdogs need them: closed connections and unacknowledged data are noticed by the
// kernel, within seconds, also when the process at the other end only stands still.
#include "comm/pulse_socket.h"

#include "core/error.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <sstream>
#include <utility>
#include <vector>

namespace lockstep {
namespace {

constexpr int kConnectMs = 2000;  // for one address
constexpr int kAnswerMs = 3000;   // for the answer to a greeting
// Of unacknowledged data or probes. A cut link looks the same from both ends; rank 0, which
// accepts, gives up first, so that where both can record a failure it is the other end's.
constexpr int kAcceptedTimeoutMs = 10000;
constexpr int kConnectedTimeoutMs = 13000;
constexpr int kKeepAliveSeconds = 3;  // between probes of an idle connection
constexpr int kProbes = 3;

void set_option(int fd, int level, int name, int value) {
  setsockopt(fd, level, name, &value, sizeof(value));  // what the system lacks, it lacks
}

bool ready_within(int fd, short events, int milliseconds) {
  pollfd entry{fd, events, 0};
  return poll(&entry, 1, milliseconds) > 0;
}

bool is_cut(int error) {
  return error == ETIMEDOUT || error == EHOSTUNREACH || error == ENETUNREACH || error == ENETDOWN;
}

// Connected within the limit, or -1 with the error.
int connect_to(const addrinfo& address, int& error) {
  const int fd = ::socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) {
    error = errno;
    return -1;
  }
  error = ::connect(fd, address.ai_addr, address.ai_addrlen) == 0 ? 0 : errno;
  if (error == EINPROGRESS) {
    socklen_t size = sizeof(error);
    error = ETIMEDOUT;
    if (ready_within(fd, POLLOUT, kConnectMs)) getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
  }
  if (error == 0) return fd;
  ::close(fd);
  return -1;
}

int connect_to(const std::string& host, const std::string& port, int& error) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  error = EADDRNOTAVAIL;
  if (getaddrinfo(host.c_str(), port.c_str(), &hints, &found) != 0) return -1;
  const int fd = connect_to(*found, error);
  freeaddrinfo(found);
  return fd;
}

}  // namespace

void PulseMessage::set_text(std::string_view from) {
  const std::size_t length = std::min(from.size(), sizeof(text) - 1);
  std::memcpy(text, from.data(), length);
  text[length] = '\0';
}

std::string_view PulseMessage::text_view() const { return {text, strnlen(text, sizeof(text))}; }

PulseSocket::PulseSocket(PulseSocket&& other) noexcept { *this = std::move(other); }

PulseSocket& PulseSocket::operator=(PulseSocket&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(cut_off_, other.cut_off_);
  std::swap(received_, other.received_);
  std::swap(incoming_, other.incoming_);
  return *this;
}

PulseSocket PulseSocket::listen(std::string& problem) {
  // One socket for both families where the host has IPv6.
  for (const int family : {AF_INET6, AF_INET}) {
    PulseSocket socket(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!socket.open()) continue;
    sockaddr_storage any{};
    any.ss_family = static_cast<sa_family_t>(family);
    const socklen_t size = family == AF_INET6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
    if (family == AF_INET6) set_option(socket.fd_, IPPROTO_IPV6, IPV6_V6ONLY, 0);
    if (::bind(socket.fd_, reinterpret_cast<sockaddr*>(&any), size) != 0) continue;
    if (::listen(socket.fd_, SOMAXCONN) == 0) return socket;
  }
  problem = fmt::format("cannot listen: {}", errno_text(errno));
  return {};
}

PulseSocket PulseSocket::accept() const {
  PulseSocket socket(::accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (socket.open()) socket.watch_connection(kAcceptedTimeoutMs);
  return socket;
}

PulseSocket PulseSocket::connect(const std::string& addresses, const PulseMessage& hello,
                                 std::string& problem) {
  std::istringstream words(addresses);
  std::string host, port;
  problem = "no address to connect to";
  while (words >> host >> port) {
    int error = 0;
    PulseSocket socket(connect_to(host, port, error));
    if (!socket.open()) {
      problem = fmt::format("{} port {}: {}", host, port, errno_text(error));
      continue;
    }
    socket.watch_connection(kConnectedTimeoutMs);
    socket.send(hello);
    PulseMessage answer;
    while (socket.open() && !socket.receive(answer)) {
      if (!ready_within(socket.fd_, POLLIN, kAnswerMs)) break;
    }
    if (answer.kind == PulseMessage::kHello && answer.text_view() == hello.text_view()) {
      problem.clear();
      return socket;
    }
    problem = fmt::format("{} port {}: no answer", host, port);
  }
  return {};
}

// A peer that is stopped still acknowledges, through its kernel; a host that is cut off does not.
void PulseSocket::watch_connection(int timeout_ms) const {
  set_option(fd_, IPPROTO_TCP, TCP_NODELAY, 1);
  set_option(fd_, SOL_SOCKET, SO_KEEPALIVE, 1);
  set_option(fd_, IPPROTO_TCP, TCP_KEEPIDLE, kKeepAliveSeconds);
  set_option(fd_, IPPROTO_TCP, TCP_KEEPINTVL, kKeepAliveSeconds);
  set_option(fd_, IPPROTO_TCP, TCP_KEEPCNT, kProbes);
  set_option(fd_, IPPROTO_TCP, TCP_USER_TIMEOUT, timeout_ms);
}

int PulseSocket::port() const {
  sockaddr_storage own{};
  socklen_t size = sizeof(own);
  if (getsockname(fd_, reinterpret_cast<sockaddr*>(&own), &size) != 0) return 0;
  if (own.ss_family == AF_INET6) return ntohs(reinterpret_cast<sockaddr_in6*>(&own)->sin6_port);
  return ntohs(reinterpret_cast<sockaddr_in*>(&own)->sin_port);
}

// A message that is only half taken would shift all later ones: that is an error too. Nobody sends
// so much that is not read.
void PulseSocket::send(const PulseMessage& message) {
  const ssize_t sent = ::send(fd_, &message, sizeof(message), MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent == static_cast<ssize_t>(sizeof(message))) return;
  if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return;
  fail(sent < 0 ? errno : EIO);
}

bool PulseSocket::receive(PulseMessage& message) {
  auto* bytes = reinterpret_cast<char*>(&incoming_);
  const ssize_t got = ::recv(fd_, bytes + received_, sizeof(incoming_) - received_, MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return false;
  if (got <= 0) {
    fail(got < 0 ? errno : 0);
    return false;
  }
  received_ += static_cast<std::size_t>(got);
  if (received_ < sizeof(incoming_)) return false;
  received_ = 0;
  incoming_.text[sizeof(incoming_.text) - 1] = '\0';
  message = incoming_;
  return true;
}

void PulseSocket::fail(int error) {
  cut_off_ = is_cut(error);
  close();
}

void PulseSocket::close() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

std::string own_addresses(int port) {
  ifaddrs* all = nullptr;
  if (getifaddrs(&all) != 0) return fmt::format("127.0.0.1 {}", port);
  std::string far, near;
  for (const ifaddrs* entry = all; entry != nullptr; entry = entry->ifa_next) {
    if (entry->ifa_addr == nullptr || (entry->ifa_flags & IFF_UP) == 0) continue;
    const int family = entry->ifa_addr->sa_family;
    if (family != AF_INET && family != AF_INET6) continue;
    const socklen_t size = family == AF_INET6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
    char text[NI_MAXHOST] = {};
    if (getnameinfo(entry->ifa_addr, size, text, sizeof(text), nullptr, 0, NI_NUMERICHOST) != 0) {
      continue;
    }
    if (std::strchr(text, '%') != nullptr) continue;  // means something on this link only
    std::string& list = (entry->ifa_flags & IFF_LOOPBACK) != 0 ? near : far;
    list += fmt::format("{} {} ", text, port);
  }
  freeifaddrs(all);
  return far + near;
}

std::string random_token() {
  unsigned char bytes[16] = {};
  CHECK(getrandom(bytes, sizeof(bytes), 0) == static_cast<ssize_t>(sizeof(bytes)));
  std::string text;
  for (const unsigned char byte : bytes) text += fmt::format("{:02x}", byte);
  return text;
}

}  // namespace lockstep
